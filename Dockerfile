# The daemon in a container: slim, not root, works with a read-only root file system. docker-compose.yml runs it with monitoring.
# Both stages must use the same base image. Pin its digest where you build for production: docker buildx imagetools inspect IMAGE

FROM docker.io/library/python:3.13.7-slim-bookworm AS build
WORKDIR /src
COPY deploy/build.lock deploy/runtime.lock deploy/
RUN python3 -m venv /opt/build && python3 -m venv /opt/strandline \
    && /opt/build/bin/pip install --no-cache-dir --require-hashes --requirement deploy/build.lock \
    && /opt/strandline/bin/pip install --no-cache-dir --require-hashes --requirement deploy/runtime.lock
COPY pyproject.toml hatch_build.py README.md CHANGELOG.md LICENSE config.toml ./
COPY daemon daemon
COPY docs docs
ARG SOURCE_COMMIT=""
RUN SOURCE_COMMIT="$SOURCE_COMMIT" /opt/build/bin/python -m hatchling build --target wheel --directory /wheels \
    && /opt/strandline/bin/pip install --no-cache-dir --no-deps --no-index /wheels/*.whl

FROM docker.io/library/python:3.13.7-slim-bookworm
LABEL org.opencontainers.image.title="Strandline" \
      org.opencontainers.image.description="Event-driven file watcher daemon: order JSON drops in, exact date-partitioned Parquet out" \
      org.opencontainers.image.version="0.2.0" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /opt/strandline /opt/strandline
RUN mkdir -p /data/inbox /data/output /etc/strandline && chown -R 10464:10464 /data
ENV PATH=/opt/strandline/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    STRANDLINE_PATHS__INBOX=/data/inbox \
    STRANDLINE_PATHS__OUTPUT=/data/output \
    STRANDLINE_HTTP__HOST=0.0.0.0
# The daemon reads ./config.toml from here, if one is mounted.
WORKDIR /etc/strandline
USER 10464:10464
EXPOSE 10464
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
    CMD ["python3", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:10464/-/healthy', timeout=4)"]
# Exec form: the daemon is PID 1 and receives SIGTERM directly.
ENTRYPOINT ["strandline"]
