# `leanpose serve` on a CPU, with the bundled networks. Linted by hadolint, but not built by the checks of this project,
# which have no Docker engine.
#
#   docker build -t leanpose .
#   docker run --rm -p 127.0.0.1:8000:8000 -e LEANPOSE_TOKEN=a-long-secret leanpose
#
# Public networks: leanpose download best, then -v "$HOME/.leanpose:/home/leanpose/.leanpose:ro"

FROM python:3.13-slim AS build
# npm fetches what the page needs, see hatch_build.py. Debian's releases keep their versions.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends npm \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY licenses licenses
COPY recipes recipes
COPY leanpose leanpose
# hadolint ignore=DL3013
RUN python -m venv --without-pip /opt/leanpose \
    && pip --python /opt/leanpose install --no-cache-dir ".[serve]"

FROM python:3.13-slim
RUN useradd --create-home --uid 10001 leanpose
COPY --from=build /opt/leanpose /opt/leanpose
ENV PATH=/opt/leanpose/bin:$PATH PYTHONUNBUFFERED=1
USER 10001
WORKDIR /home/leanpose
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["leanpose", "serve", "--host", "0.0.0.0", "--port", "8000"]
