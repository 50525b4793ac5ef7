# The image of a release: the Dockerfile's, around binaries that are built already.
FROM golang:1.26.8-bookworm AS certificates
FROM scratch
ARG TARGETPLATFORM
COPY --from=certificates /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY $TARGETPLATFORM/syncd /syncd
USER 65532:65532
WORKDIR /etc/syncd
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=6s --start-period=10s --retries=3 CMD ["/syncd", "healthcheck"]
ENTRYPOINT ["/syncd"]
