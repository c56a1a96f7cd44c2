# docker build -f deploy/container/node.Dockerfile --build-arg EXTRAS=cli,identity,torch -t umbel-node .
# EXTRAS are those that the app's client needs beside `cli,identity`.
FROM python:3.12-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY src src
ARG EXTRAS=cli,identity
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels . \
 && python -m venv /opt/umbel \
 && /opt/umbel/bin/pip install --no-cache-dir "$(ls /wheels/umbel-*.whl)[${EXTRAS}]"

FROM python:3.12-slim
RUN useradd --system --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin umbel \
 && install -d -o umbel -g umbel -m 0700 /var/lib/umbel /codes \
 && install -d /apps
COPY --from=build /opt/umbel /opt/umbel
COPY deploy/container/healthy.py /opt/umbel/healthy.py
ENV PATH=/opt/umbel/bin:$PATH PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
VOLUME ["/var/lib/umbel"]
# A node listens nowhere: it is healthy while it is connected to its server.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["python", "/opt/umbel/healthy.py", "node", "/var/lib/umbel"]
CMD ["umbel", "node", "/apps/hospital", "--folder", "/var/lib/umbel", "--log-format", "json"]
