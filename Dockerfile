# The service in a container of its own. To build and start it: docker compose up -d

FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY requirements.lock requirements-build.lock ./
# What the service runs on goes into a venv, which has no pip; what builds its wheel stays outside.
RUN python -m venv --without-pip /opt/threadlab \
    && pip --python /opt/threadlab/bin/python install --require-hashes -r requirements.lock \
    && pip install --require-hashes -r requirements-build.lock
COPY pyproject.toml README.md LICENSE ./
COPY service service
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && pip --python /opt/threadlab/bin/python install --no-deps --no-index /wheels/*.whl

FROM python:3.13-slim
LABEL org.opencontainers.image.title="Threadlab" \
      org.opencontainers.image.description="Runs threading scenarios as jobs and reports what the threads really did." \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /opt/threadlab /opt/threadlab
# The user has a number only: engines can tell that it is not root, and the image needs no entry for it.
RUN install -d -o 10001 -g 10001 -m 0750 /data
ENV PATH=/opt/threadlab/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    THREADLAB_HOST=0.0.0.0 \
    THREADLAB_EXPOSE=true \
    THREADLAB_PORT=8000 \
    THREADLAB_DATABASE_URL=sqlite:////data/threadlab.db
USER 10001:10001
WORKDIR /data
VOLUME ["/data"]
EXPOSE 8000
# http.client because urllib would ask a proxy that the environment names.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['THREADLAB_PORT']), timeout=2); c.request('GET', '/healthz'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["threadlab"]
CMD ["serve"]
