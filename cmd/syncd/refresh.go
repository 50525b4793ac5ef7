package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"polarmirror/internal/console"
	"polarmirror/internal/mirror"
)

func (p *program) refreshCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "refresh CUSTOMER...",
		Short: "Read all customer meters of some customers again, and mirror them now",
		Long: `Reads all customer meters of the customers again, mirrors them, and prints what
changed. A customer is named by Polar's id or by the id in your own system. It holds
no lock and waits for no run, so it may be called while the service runs; of two
states of a row the newer stays. Nothing is marked deleted: rows that Polar does not
list stay as they are. With several organizations configured, each is asked.

Exit code 1 means that a customer is unknown, or that an organization failed.`,
		Example: "  syncd refresh 3b9f2c1e-7a54-4f0e-9c1d-5e8a6b0d4f21\n  syncd refresh user_1042 user_1043 --json\n  syncd refresh --organization acme user_1042",
		Args: func(cmd *cobra.Command, args []string) error {
			problem := ""
			for _, arg := range args {
				if strings.TrimSpace(arg) == "" {
					problem = "an id of a customer is empty"
				}
			}
			if len(args) == 0 {
				problem = "refresh takes the ids of customers: Polar's, or those in your own system"
			}
			if problem != "" {
				return &usageError{command: cmd.CommandPath(), problem: problem}
			}
			return nil
		},
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.refresh(cmd.Context(), args, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "an array of objects, one for each organization")
	p.demoFlag(cmd, "the demo's mirror and its simulated Polar, while no syncd --demo runs")
	return cmd
}

func (p *program) refresh(ctx context.Context, customers []string, asJSON bool) error {
	cfg, err := p.loadConfig()
	if err != nil {
		return err
	}
	p.openLog(cfg.Log, true)
	defer p.announceStop(ctx)()
	env, err := p.openEnv(ctx, cfg)
	if err != nil {
		return err
	}
	m, err := p.newMirror(env.cfg, env.db, env.source, nil)
	if err != nil {
		return err
	}
	var reports []mirror.Refreshed
	failed := untilStopped(ctx, func() (err error) {
		reports, err = m.Refresh(ctx, customers)
		return err
	})
	if asJSON {
		err = printRefreshJSON(p.stdout, reports)
	} else {
		err = printRefresh(p.stdout, reports)
	}
	if err := errors.Join(failed, err); err != nil {
		return err
	}
	return unknownCustomers(reports)
}

// unknownCustomers names the customers whom no organization knows.
func unknownCustomers(reports []mirror.Refreshed) error {
	times := map[string]int{}
	var errs []error
	for i := range reports {
		for _, customer := range reports[i].Unknown {
			if times[customer]++; times[customer] == len(reports) {
				errs = append(errs, fmt.Errorf("customer %s: neither Polar, with the configured tokens, lists customer meters of it nor does the mirror know it", customer))
			}
		}
	}
	return errors.Join(errs...)
}

func printRefresh(out io.Writer, reports []mirror.Refreshed) error {
	table := console.Table{Columns: []string{"organization", "customer", "meter", "field", "old", "new"}}
	var notes []string
	for i := range reports {
		r := &reports[i]
		for _, c := range r.Customers {
			told := map[string]bool{} // fields of the customer are in each of its customer meters
			for _, change := range c.Changes {
				for _, d := range change.Fields {
					meter := change.MeterName
					if strings.HasPrefix(d.Field, "customer.") {
						if meter = ""; told[d.Field] {
							continue
						}
						told[d.Field] = true
					}
					table.Rows = append(table.Rows, []string{r.Organization, c.Asked, meter, d.Field, orDash(shorten(d.A)), orDash(shorten(d.B))})
				}
			}
			switch {
			case c.Listed == 0:
				notes = append(notes, notListed(r, &c))
			case len(c.Changes) == 0:
				notes = append(notes, fmt.Sprintf("%s, customer %s: nothing changed.", r.Organization, c.Asked))
			}
		}
		if r.Rejected > 0 {
			notes = append(notes, fmt.Sprintf("%s: %s rows could not be mirrored; see why: SELECT customer_meter_id, reason FROM polar.rejected_rows;", r.Organization, console.Count(r.Rejected)))
		}
	}
	if len(table.Rows) > 0 {
		if err := table.Print(out); err != nil {
			return err
		}
	}
	for _, note := range notes {
		if _, err := fmt.Fprintln(out, note); err != nil {
			return err
		}
	}
	return nil
}

func notListed(r *mirror.Refreshed, c *mirror.RefreshedCustomer) string {
	filter := ""
	if r.Filtered {
		filter = " that the configured filter lets in"
	}
	return fmt.Sprintf("%s, customer %s: Polar lists no customer meters of it%s; its rows in the mirror stay as they are.", r.Organization, c.Asked, filter)
}

// A refreshReport is one organization in syncd refresh --json.
type refreshReport struct {
	Organization string            `json:"organization"`
	RunID        int64             `json:"run_id"`
	Customers    []refreshCustomer `json:"customers"`
	Unknown      []string          `json:"unknown"`
	Rejected     int64             `json:"rejected"`
}

type refreshCustomer struct {
	Asked      string          `json:"asked"`
	CustomerID uuid.UUID       `json:"customer_id"`
	Listed     int             `json:"listed"`
	Changes    []refreshChange `json:"changes"`
}

type refreshChange struct {
	ID      uuid.UUID            `json:"id"`
	MeterID uuid.UUID            `json:"meter_id"`
	Meter   string               `json:"meter"`
	Kind    mirror.RowChangeKind `json:"kind"`
	Fields  []fieldChange        `json:"fields"`
}

type fieldChange struct {
	Field string `json:"field"`
	Old   string `json:"old"`
	New   string `json:"new"`
}

func printRefreshJSON(out io.Writer, reports []mirror.Refreshed) error {
	list := []refreshReport{} // not nil: an empty array in JSON
	for i := range reports {
		r := &reports[i]
		report := refreshReport{
			Organization: r.Organization, RunID: r.RunID, Customers: []refreshCustomer{},
			Unknown: append([]string{}, r.Unknown...), Rejected: r.Rejected,
		}
		for _, c := range r.Customers {
			customer := refreshCustomer{Asked: c.Asked, CustomerID: c.ID, Listed: c.Listed, Changes: []refreshChange{}}
			for _, change := range c.Changes {
				fields := []fieldChange{}
				for _, d := range change.Fields {
					fields = append(fields, fieldChange{Field: d.Field, Old: d.A, New: d.B})
				}
				customer.Changes = append(customer.Changes, refreshChange{
					ID: change.ID, MeterID: change.MeterID, Meter: change.MeterName, Kind: change.Kind, Fields: fields,
				})
			}
			report.Customers = append(report.Customers, customer)
		}
		list = append(list, report)
	}
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(list)
}
