# An image with an app in it: docker build -f deploy/container/app.Dockerfile --build-arg BASE=umbel-server -t hospital-server .
# Build the node's image from the same folder: server and nodes compare the app's digest.
ARG BASE=umbel-server
FROM ${BASE}
COPY hospital /apps/hospital
