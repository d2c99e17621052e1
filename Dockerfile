# Two images: the job (docker build .) and Jupyter (docker build --target jupyter .).

# The digest names one build of the base; Dependabot proposes the next one.
FROM python:3.13-slim-trixie@sha256:9d2e5553305c7c7b0097999bb17187c69b921ccd6bc9d40e4bb5ebe652c00285 AS python
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /app

FROM python AS wheel
COPY requirements-build.txt ./
RUN pip install --no-cache-dir --disable-pip-version-check --requirement requirements-build.txt
COPY pyproject.toml README.md config.yaml ./
COPY etl/ etl/
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheels .

FROM python AS base
# A number, so that an orchestrator can see that it is not root.
RUN useradd --uid 10001 --create-home etl
COPY requirements.txt ./
RUN pip install --no-cache-dir --disable-pip-version-check --requirement requirements.txt
COPY --from=wheel /wheels/ /wheels/
RUN pip install --no-cache-dir --disable-pip-version-check --no-deps /wheels/*.whl
COPY config.yaml ./
# The certificate authorities of Amazon RDS, with which the job verifies hosts in rds.amazonaws.com,
# and no others. AWS changes the file when it adds a region; a build then stops here. Compare the new
# checksum with another source before you write it down. (ADD alone would make a file for root only.)
ADD --checksum=sha256:e5bb2084ccf45087bda1c9bffdea0eb15ee67f0b91646106e466714f9de3c7e3 --chmod=0444 \
    https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem /etc/ssl/rds-global-bundle.pem
ENV ETL_DATABASE__RDS_CA_FILE=/etc/ssl/rds-global-bundle.pem

FROM base AS jupyter
COPY requirements-build.txt requirements-dev.txt ./
RUN pip install --no-cache-dir --disable-pip-version-check --requirement requirements-dev.txt
# The notebooks belong to the user, who may change them; the changes stay in the container.
COPY --chown=10001:10001 notebooks/ notebooks/
USER 10001:10001
EXPOSE 8888
ENTRYPOINT ["jupyter", "lab", "--ip=0.0.0.0", "--port=8888", "--no-browser", "--notebook-dir=notebooks"]

# The last stage is what a build without a target makes.
FROM base AS job
USER 10001:10001
ENTRYPOINT ["etl"]
CMD ["run"]
