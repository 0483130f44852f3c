# The online half. The wheel holds the builder's code too; without torch and polars it cannot run here. From the repository's root:
#   docker build -f docker/service.Dockerfile -t absorb-service .
#   docker build -f docker/service.Dockerfile -t absorb-service:gpu --build-arg EXTRAS="gpu grpc" .   (run with --gpus all)
# The V2 protocol over gRPC, too: -e ABSORB_GRPC_PORT=8001 -p 8001:8001.
# Runs with a read-only root: it writes only its log.

FROM python:3.11.14-slim-bookworm AS install
# Extras of pyproject.toml: `cpu` or `gpu`, never both; `grpc` adds the gRPC server, `kafka` events from Kafka for
# `absorb follow`; the load generator adds `load`.
ARG EXTRAS="cpu grpc"
WORKDIR /build
COPY requirements ./requirements
# Dependencies first, in a layer of their own: a change of code does not install them again.
# Each file is checked against its hash. --no-deps: the lists are complete. --only-binary: no package runs code to be built.
RUN set --; for name in base ${EXTRAS}; do set -- "$@" --requirement "requirements/${name}.txt"; done; \
    python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes --no-deps --only-binary :all: \
        "$@"
# The project itself, as a wheel: its version and its commands come from the installed distribution. What builds the
# wheel is checked, too, and stays outside of the image; so does the C compiler (ziglang), of which the image gets the
# library that it made.
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY models ./models
COPY builder ./builder
COPY service ./service
COPY loadtest ./loadtest
RUN python -m venv /build/tools \
    && /build/tools/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes --no-deps \
        --only-binary :all: --requirement requirements/build.txt --requirement requirements/compiler.txt \
    && /build/tools/bin/pip wheel --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist . \
    && /venv/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --no-index dist/*.whl \
    && /venv/bin/python -I -B -c "from service.native.library import open_library; open_library()"

FROM python:3.11.14-slim-bookworm AS runtime
ENV PATH=/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# The builder runs under the same id, so both may use one volume.
RUN groupadd --gid 10001 absorb \
    && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin absorb \
    && mkdir -p /app/var/artifacts /app/var/load \
    && chown -R 10001:10001 /app/var
WORKDIR /app
COPY --from=install /venv /venv
USER 10001:10001

FROM runtime AS load
ENTRYPOINT ["python", "-m", "loadtest"]
CMD ["--url", "http://service:8000"]

FROM runtime AS service
ENV ABSORB_HOST=0.0.0.0 \
    ABSORB_PORT=8000
EXPOSE 8000
# No certificate is for 127.0.0.1, so the check looks at none.
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, ssl, urllib.request as r; s = 'https' if os.environ.get('ABSORB_TLS_CERT_FILE') else 'http'; r.urlopen(f'{s}://127.0.0.1:{os.environ[\"ABSORB_PORT\"]}/health/ready', timeout=2, context=ssl._create_unverified_context())"]
CMD ["python", "-m", "service"]
