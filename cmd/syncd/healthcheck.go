package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"polarmirror/internal/web"
)

func (p *program) healthcheckCommand() *cobra.Command {
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
		Args:    cobra.NoArgs,
		RunE:    p.healthcheck,
	}
	cmd.Flags().BoolVar(&p.flags.ready, "ready", false, "also ask whether the database is of use (/readyz)")
	return cmd
}

func (p *program) healthcheck(cmd *cobra.Command, _ []string) error {
	cfg, err := p.loadConfig()
	if err != nil {
		return err
	}
	setting, listen := "http.listen", cfg.HTTP.Listen
	if listen == "" {
		setting, listen = "http.webhook_listen", cfg.HTTP.WebhookListen
	}
	switch {
	case listen == "":
		return &exitError{exitUsage, fmt.Errorf(`%s: http.listen and http.webhook_listen are both "": the service answers no health checks; set http.listen, such as 127.0.0.1:8080`, cfg.Source)}
	case strings.HasSuffix(listen, ":0"):
		return &exitError{exitUsage, fmt.Errorf("%s: %s leaves the port to chance (0): give it a number, so that health checks know where to ask", cfg.Source, setting)}
	}
	path, is := web.AlivePath, "alive"
	if p.flags.ready {
		path, is = web.ReadyPath, "ready"
	}
	url, err := web.AskHealth(cmd.Context(), listen, path, userAgent())
	if err != nil {
		return fmt.Errorf("the service at %s is not %s: %w", url, is, err)
	}
	return p.print(fmt.Sprintf("The service at %s is %s.\n", url, is))
}
