# emt in a container, without root:
#   docker build -t emt .
#   docker run --rm -v "$PWD:/work" -u "$(id -u):$(id -g)" emt upscale photo.jpg
# For NVIDIA GPUs: docker build -t emt-cuda --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 .
#   docker run --rm --gpus all -v "$PWD:/work" -u "$(id -u):$(id -g)" emt-cuda upscale photo.jpg
FROM python:3.13-slim AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG EXTRAS=heif,jxl
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY docs/emt.1 docs/emt.1
COPY weights weights
COPY emt_cli emt_cli
RUN python -m venv /opt/emt \
    && /opt/emt/bin/pip install --no-cache-dir --index-url "$TORCH_INDEX" "$(grep '^torch==' constraints.txt)" \
    && /opt/emt/bin/pip install --no-cache-dir -c constraints.txt ".[$EXTRAS]" \
    && /opt/emt/bin/pip uninstall --yes pip

FROM python:3.13-slim
COPY --from=build /opt/emt /opt/emt
# What is fetched and compiled lies in a folder of its own; -v emt-cache:/cache keeps it.
RUN useradd --create-home --uid 1000 emt && install -d -o 1000 /cache /work
ENV EMT_CACHE=/cache PYTHONUNBUFFERED=1
USER 1000
WORKDIR /work
ENTRYPOINT ["/opt/emt/bin/emt"]
