# docker build -t distilcse .
# docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/work" -v distilcse:/data distilcse demo --minutes 2
FROM python:3.13-slim AS build
WORKDIR /source
COPY constraints.txt ./
RUN python -m venv /opt/venv
# for CUDA this line instead, as PyPI's torch brings it; then `docker run --gpus all …`:
# RUN /opt/venv/bin/pip install --no-cache-dir --constraint constraints.txt torch
RUN /opt/venv/bin/pip install --no-cache-dir --constraint constraints.txt \
    --extra-index-url https://download.pytorch.org/whl/cpu torch
COPY LICENSE README.md pyproject.toml setup.py ./
COPY distilcse_cli distilcse_cli
COPY senteval senteval
RUN /opt/venv/bin/pip install --no-cache-dir --constraint constraints.txt '.[cpu]'

FROM python:3.13-slim
COPY --from=build /opt/venv /opt/venv
# /data keeps downloads; any user may write there, so that --user can name the owner of /work
RUN useradd --create-home distilcse && install -d -m 1777 /data /work
ENV PATH=/opt/venv/bin:$PATH DISTILCSE_HOME=/data HF_HOME=/data/huggingface
USER distilcse
WORKDIR /work
ENTRYPOINT ["distilcse"]
