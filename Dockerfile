# Two images: the job (docker build .) and Jupyter (docker build --target jupyter .).

FROM python:3.13-slim-trixie AS base
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# A number, so that an orchestrator can see that it is not root.
RUN useradd --uid 10001 --create-home etl
WORKDIR /app
COPY requirements.txt ./
RUN pip install --no-cache-dir --disable-pip-version-check --requirement requirements.txt
COPY etl/ etl/
COPY config.yaml ./

FROM base AS jupyter
COPY requirements-dev.txt ./
RUN pip install --no-cache-dir --disable-pip-version-check --requirement requirements-dev.txt
# Copies that Jupyter may change: what is done in the container stays in the container.
COPY --chown=10001:10001 notebooks/ notebooks/
USER 10001:10001
EXPOSE 8888
ENTRYPOINT ["jupyter", "lab", "--ip=0.0.0.0", "--port=8888", "--no-browser", "--notebook-dir=notebooks"]

# The last one, which a build without a target makes.
FROM base AS job
USER 10001:10001
ENTRYPOINT ["python", "-m", "etl"]
CMD ["run"]
