# docker build -f deploy/container/server.Dockerfile -t umbel-server .
# The first stage builds the wheel and installs it with its libraries; the second holds the result and nothing else.
FROM python:3.12-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY src src
ARG EXTRAS=server
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels . \
 && python -m venv /opt/umbel \
 && /opt/umbel/bin/pip install --no-cache-dir "$(ls /wheels/umbel-*.whl)[${EXTRAS}]"

FROM python:3.12-slim
RUN useradd --system --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin umbel \
 && install -d -o umbel -g umbel -m 0700 /var/lib/umbel /codes \
 && install -d /apps
COPY --from=build /opt/umbel /opt/umbel
COPY deploy/container/healthy.py /opt/umbel/healthy.py
# Bytecode is not written, so that the root file system can be read-only; OMP_NUM_THREADS keeps NumPy to one thread a run.
ENV PATH=/opt/umbel/bin:$PATH PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1
USER 10001:10001
VOLUME ["/var/lib/umbel"]
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s CMD ["python", "/opt/umbel/healthy.py", "server", "/var/lib/umbel"]
# No ENTRYPOINT: `docker exec` and one-shot containers say `umbel invite …` in the same words as a shell.
CMD ["umbel", "server", "--listen", "0.0.0.0:8080", "--folder", "/var/lib/umbel", "--log-format", "json"]
