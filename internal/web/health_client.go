package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// The paths of the health checks of which [AskHealth] understands the answers.
const (
	AlivePath = "/healthz"
	ReadyPath = "/readyz"
)

// HealthTimeout bounds a health check. /readyz gives the database two seconds, and
// whoever runs health checks usually five or more.
const HealthTimeout = 4 * time.Second

// maxHealthAnswer is more than syncd ever answers on these paths, in bytes.
const maxHealthAnswer = 4 << 10

// AskHealth asks the service that listens at an address, from the same machine, and
// returns where it asked. The error is nil if the service is well, else the reason
// that it gives, or why there is no answer of syncd's.
//
// It goes there directly, whatever proxy the environment names, and takes no redirect
// for an answer.
func AskHealth(ctx context.Context, listen, path, userAgent string) (url string, err error) {
	url = "http://" + listen + path // an address of everywhere means this machine to whoever calls it
	ctx, cancel := context.WithTimeout(ctx, HealthTimeout)
	defer cancel()
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return url, err
	}
	request.Header.Set("User-Agent", userAgent)
	response, err := client.Do(request)
	if errors.Is(err, context.DeadlineExceeded) {
		return url, fmt.Errorf("no answer within %v", HealthTimeout)
	}
	if op, ok := errors.AsType[*net.OpError](err); ok { // without the address, which the caller says
		return url, fmt.Errorf("nobody answers there (%w); is syncd running, with this configuration?", op.Err)
	}
	if err != nil {
		return url, fmt.Errorf("nobody answers there in HTTP (%w)", errors.Unwrap(err))
	}
	defer response.Body.Close() //nolint:errcheck // nothing is lost by it
	var answer struct {
		Alive, Ready bool
		Reason       string
	}
	err = json.NewDecoder(io.LimitReader(response.Body, maxHealthAnswer)).Decode(&answer)
	switch {
	case err == nil && response.StatusCode == http.StatusOK && (answer.Alive || answer.Ready):
		return url, nil
	case err == nil && answer.Reason != "":
		return url, errors.New(answer.Reason)
	}
	return url, fmt.Errorf("the answer (status %d) did not come from syncd; does another program listen there?", response.StatusCode)
}
