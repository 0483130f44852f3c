# The offline half. From the repository's root:
#   docker build -f docker/builder.Dockerfile -t absorb-builder .
# Needs a writable /app/var (runs and artifacts); everything else may be read-only.

FROM python:3.11.14-slim-bookworm AS install
# Holds builds of torch 2.13.0 without CUDA. For a GPU: https://download.pytorch.org/whl/cu130 and EXTRAS="builder language gpu".
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG EXTRAS="builder language cpu"
WORKDIR /build
COPY pyproject.toml constraints.txt ./
# Dependencies first, in a layer of their own: a change of code does not install them again.
RUN python -c "import sys, tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
        e = p['optional-dependencies']; \
        print(*p['dependencies'], *(d for name in sys.argv[1:] for d in e[name]), sep='\n')" \
        ${EXTRAS} > requirements.txt \
    && python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --disable-pip-version-check --extra-index-url "${TORCH_INDEX}" \
        --constraint constraints.txt --requirement requirements.txt
# The project itself, as a wheel: its version and its commands come from the installed distribution.
COPY README.md LICENSE ./
COPY models ./models
COPY builder ./builder
COPY service ./service
COPY loadtest ./loadtest
RUN /venv/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps .

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
