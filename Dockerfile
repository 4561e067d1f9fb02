# The image of bgpilot: the agent, ExaBGP and what they need of the package index, each by its hash; nothing is compiled.
#   docker build -t bgpilot:0.1.0 .
#   docker build --build-arg BASE=your.mirror/python:3.13-slim --build-arg REVISION=$(git rev-parse HEAD) -t bgpilot:0.1.0 .
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
WORKDIR /src
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
# Without pip, since nothing is installed later; the base's own pip fills it.
RUN python -m venv --without-pip /opt/bgpilot && python -m venv /opt/build
COPY requirements.lock deploy/image-build.lock ./
RUN python -m pip --python /opt/bgpilot/bin/python install --require-hashes --no-deps --only-binary :all: -r requirements.lock
RUN /opt/build/bin/pip install --require-hashes --no-deps --only-binary :all: -r image-build.lock
COPY pyproject.toml README.md LICENSE ./
COPY agent agent
COPY bgp bgp
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /src/wheels .
RUN python -m pip --python /opt/bgpilot/bin/python install --no-deps --no-index --find-links /src/wheels bgpilot

FROM ${BASE}
ARG BASE
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="bgpilot" \
      org.opencontainers.image.description="A BGP routing agent for Kubernetes nodes" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE}"
COPY --from=build /opt/bgpilot /opt/bgpilot
# The root file system is read-only in the DaemonSet: byte code is in the image, all output goes to /run/bgpilot.
ENV PATH=/opt/bgpilot/bin:${PATH} PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# Routes and port 179 need root's capabilities; the DaemonSet drops all others.
USER 0:0
ENTRYPOINT ["bgpilot"]
CMD ["run"]
