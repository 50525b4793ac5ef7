# syncd in an image that holds nothing but the binary and the certificates it
# needs to reach Polar. It has no embedded database: set DATABASE_URL.

FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags="-s -w" -o /out/syncd ./cmd/syncd

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/syncd /syncd
USER 65532:65532
WORKDIR /etc/syncd
ENTRYPOINT ["/syncd"]
