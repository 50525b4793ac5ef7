package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"polarmirror/internal/config"
	"polarmirror/internal/console"
)

// healthcheckTime bounds the whole question. /readyz gives the database two
// seconds, and whoever runs health checks usually five or more.
const healthcheckTime = 4 * time.Second

// maxHealthAnswer is more than syncd ever answers on these paths, in bytes.
const maxHealthAnswer = 4 << 10

func (p *program) healthcheckCommand() *cobra.Command {
	var ready bool
	cmd := &cobra.Command{
		Use:   "healthcheck",
		Short: "Ask the running service whether it is alive",
		Long: `Asks the service that this configuration belongs to, at http.listen (or, where
that is off, http.webhook_listen), whether it is alive; with --ready, whether its
database can be reached and written to and is migrated. It is what a container's
health check and scripts call, from where the service runs.

Exit codes: 0 it is, 1 it is not or gave no answer, 2 the configuration is wrong
or has no address to ask at.`,
		Example: "  syncd healthcheck\n  syncd healthcheck --ready --config /etc/syncd/config.yaml",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.healthcheck(cmd.Context(), ready)
		},
	}
	cmd.Flags().BoolVar(&ready, "ready", false, "also ask whether the database is of use (/readyz)")
	return cmd
}

func (p *program) healthcheck(ctx context.Context, ready bool) error {
	cfg, err := p.loadConfig()
	if err != nil {
		return err
	}
	addresses, err := healthAddresses(cfg)
	if err != nil {
		return err
	}
	path, is := "/healthz", "alive"
	if ready {
		path, is = "/readyz", "ready"
	}
	ctx, cancel := context.WithTimeout(ctx, healthcheckTime)
	defer cancel()
	url := "http://" + addresses[0] + path
	if err := askHealth(ctx, addresses, url); err != nil {
		return fmt.Errorf("the service at %s is not %s: %w", url, is, err)
	}
	_, err = fmt.Fprintf(p.stdout, "The service at %s is %s.\n", url, is)
	return err
}

// healthAddresses are those to dial, one after the other, to reach the service
// that cfg configures. A service that listens everywhere listens on loopback.
func healthAddresses(cfg *config.Config) ([]string, error) {
	setting, listen := "http.listen", cfg.HTTP.Listen
	if listen == "" {
		setting, listen = "http.webhook_listen", cfg.HTTP.WebhookListen
	}
	if listen == "" {
		return nil, unanswerable(cfg, `http.listen and http.webhook_listen are both "": the service answers no health checks; set http.listen, such as 127.0.0.1:8080`)
	}
	host, port, err := net.SplitHostPort(listen)
	if err != nil { // impossible: Load has looked at it
		return nil, fmt.Errorf("%s: %w", setting, err)
	}
	if port == "0" {
		return nil, unanswerable(cfg, setting+" leaves the port to chance (0): give it a number, so that health checks know where to ask")
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		return []string{net.JoinHostPort("127.0.0.1", port), net.JoinHostPort("::1", port)}, nil
	}
	return []string{listen}, nil
}

func unanswerable(cfg *config.Config, problem string) error {
	return &config.Error{Problems: []config.Problem{{File: cfg.Source, Message: problem}}}
}

// askHealth gets url from the first of addresses that somebody listens at.
//
// It goes there directly, whatever proxy the environment names, and takes no
// redirect for an answer.
func askHealth(ctx context.Context, addresses []string, url string) error {
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var dialer net.Dialer
			var errs []error
			for _, address := range addresses {
				conn, err := dialer.DialContext(ctx, network, address)
				if err == nil {
					return conn, nil
				}
				errs = append(errs, err)
			}
			return nil, errs[0]
		},
	}
	client := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	request.Header.Set("User-Agent", userAgent())
	response, err := client.Do(request)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no answer within %v", healthcheckTime)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return healthCause(err)
	}
	defer response.Body.Close()
	return readHealth(response)
}

// healthCause leaves out what the sentence says already.
func healthCause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return fmt.Errorf("nobody answers there (%w); is syncd running, with this configuration?", op.Err)
	}
	for cause := errors.Unwrap(err); cause != nil; cause = errors.Unwrap(err) {
		err = cause
	}
	return fmt.Errorf("nobody answers there in HTTP (%w)", err)
}

// readHealth is nil for the answer of a syncd that is well, else the reason that
// it gives. Whatever else may listen at that address is no healthy syncd.
func readHealth(response *http.Response) error {
	var answer struct {
		Alive  bool   `json:"alive"`
		Ready  bool   `json:"ready"`
		Reason string `json:"reason"`
	}
	err := json.NewDecoder(io.LimitReader(response.Body, maxHealthAnswer)).Decode(&answer)
	switch {
	case err == nil && response.StatusCode == http.StatusOK && (answer.Alive || answer.Ready):
		return nil
	case err == nil && answer.Reason != "":
		return errors.New(console.Clean(answer.Reason))
	}
	return fmt.Errorf("the answer, status %d, is none of syncd's; does another program listen there?", response.StatusCode)
}
