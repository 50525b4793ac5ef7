# syncd in an image that holds nothing but the binary and the certificates it
# needs to reach Polar: no shell, no package, no user but one without rights.
# It has no embedded database: set DATABASE_URL.
#
#   docker build -t syncd \
#     --build-arg VERSION="$(git describe --tags --always --dirty)" \
#     --build-arg COMMIT="$(git rev-parse HEAD)" .
#
# Reproducible: the same sources, arguments and base give the same binary, since
# -trimpath leaves out where it was built and -buildvcs=false when the commit was
# made. The base is named by its exact release. A tag can be moved, though; pin
# what you have looked at by writing golang:1.26.8-bookworm@sha256:..., with the
# digest that `docker buildx imagetools inspect golang:1.26.8-bookworm` prints.
# The base only compiles: of it nothing but the certificates gets into the image.

ARG GO_VERSION=1.26.8
FROM golang:${GO_VERSION}-bookworm AS build
ENV GOTOOLCHAIN=local CGO_ENABLED=0
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION="" COMMIT=""
RUN go build -trimpath -buildvcs=false -ldflags="-s -w -X main.linkedVersion=$VERSION -X main.linkedCommit=$COMMIT" -o /out/syncd ./cmd/syncd

FROM scratch
ARG VERSION="" COMMIT=""
LABEL org.opencontainers.image.title="syncd" \
      org.opencontainers.image.description="Mirrors the customer meters of Polar organizations into Postgres" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$COMMIT"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/syncd /syncd
USER 65532:65532
# config.yaml is read from here if it is there; else the environment is the
# configuration. Nothing is ever written: run it with a read-only root.
WORKDIR /etc/syncd
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=6s --start-period=10s --retries=3 CMD ["/syncd", "healthcheck"]
ENTRYPOINT ["/syncd"]
