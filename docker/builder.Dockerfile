# The offline half. From the repository's root:
#   docker build -f docker/builder.Dockerfile -t absorb-builder .
# Needs a writable /app/var (runs and artifacts); everything else may be read-only.

FROM python:3.11.14-slim-bookworm AS install
# torch's build, which has a list of hashes of its own, and the index that has it. For a GPU:
#   --build-arg EXTRAS="builder language gpu" --build-arg TORCH=gpu --build-arg TORCH_INDEX=https://pypi.org/simple
ARG TORCH=cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG EXTRAS="builder language cpu"
WORKDIR /build
COPY requirements ./requirements
# Dependencies first, in a layer of their own: a change of code does not install them again.
# Each file is checked against its hash. --no-deps: the lists are complete. --only-binary: no package runs code to be built.
RUN set --; for name in base ${EXTRAS}; do set -- "$@" --requirement "requirements/${name}.txt"; done; \
    python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes --no-deps --only-binary :all: \
        "$@" \
    && /venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes --no-deps --only-binary :all: \
        --index-url "${TORCH_INDEX}" --requirement "requirements/torch-${TORCH}.txt"
# The project itself, as a wheel: its version and its commands come from the installed distribution. What builds the
# wheel is checked, too, and stays outside of the image. There is no compiler: the native library is for the service.
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY models ./models
COPY builder ./builder
COPY service ./service
COPY loadtest ./loadtest
RUN python -m venv /build/tools \
    && /build/tools/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes --no-deps \
        --only-binary :all: --requirement requirements/build.txt \
    && /build/tools/bin/pip wheel --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist . \
    && /venv/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --no-index dist/*.whl

FROM python:3.11.14-slim-bookworm AS builder
ENV PATH=/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# lightgbm, the floor of the evaluate step, loads the system's OpenMP.
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1=12.2.0-14+deb12u1 \
    && rm -rf /var/lib/apt/lists/*
# The service runs under the same id, so both may use one volume.
RUN groupadd --gid 10001 absorb \
    && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin absorb \
    && mkdir -p /app/var/artifacts /app/var/runs \
    && chown -R 10001:10001 /app/var
WORKDIR /app
COPY --from=install /venv /venv
USER 10001:10001
ENTRYPOINT ["python", "-m", "builder"]
# The default recipe, complete-journey. For your own log: mount its recipe and name it.
CMD ["run"]
