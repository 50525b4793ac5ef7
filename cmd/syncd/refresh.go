package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"polarmirror/internal/console"
	"polarmirror/internal/mirror"
)

func (p *program) refreshCommand() *cobra.Command {
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
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("refresh takes the ids of customers: Polar's, or those in your own system")
			}
			if slices.ContainsFunc(args, func(arg string) bool { return strings.TrimSpace(arg) == "" }) {
				return errors.New("an id of a customer is empty")
			}
			return nil
		},
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              p.refresh,
	}
	p.jsonFlag(cmd)
	p.demoFlag(cmd, "the demo's mirror and its simulated Polar, whether or not syncd --demo is running")
	return cmd
}

func (p *program) refresh(cmd *cobra.Command, customers []string) error {
	ctx := cmd.Context()
	e, err := p.openMirror(ctx, true)
	if err != nil {
		return err
	}
	reports, err := printReports(ctx, p, differencesAs("old", "new"), refreshText, func() ([]mirror.Refreshed, error) {
		return e.mirror.Refresh(ctx, customers)
	})
	if err != nil {
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
				errs = append(errs, fmt.Errorf("customer %s: Polar lists no customer meters for this id (with the configured tokens), and the mirror has none; give the id that it has at Polar or in your own system, not a name or an e-mail address", customer))
			}
		}
	}
	return errors.Join(errs...)
}

func refreshText(reports []mirror.Refreshed) string {
	table := console.Table{Columns: []string{"organization", "customer", "meter", "field", "old", "new"}}
	notes := ""
	note := func(format string, args ...any) { notes += fmt.Sprintf(format+"\n", args...) }
	for i := range reports {
		r := &reports[i]
		for _, c := range r.Customers {
			addChanges(&table, r.Organization, &c)
			switch {
			case c.Listed == 0 && r.Filtered:
				note("%s, customer %s: Polar lists no customer meters of it that the configured filter lets in; its rows in the mirror stay as they are.", r.Organization, c.Asked)
			case c.Listed == 0:
				note("%s, customer %s: Polar lists no customer meters of it; its rows in the mirror stay as they are.", r.Organization, c.Asked)
			case len(c.Changes) == 0:
				note("%s, customer %s: nothing changed.", r.Organization, c.Asked)
			}
		}
		if r.Rejected > 0 {
			note("%s: %s could not be mirrored; see why: SELECT customer_meter_id, reason FROM polar.rejected_rows;", r.Organization, console.Plural(r.Rejected, "row", "rows"))
		}
	}
	return table.String() + notes
}

// addChanges adds a line for each field that changed.
func addChanges(table *console.Table, organization string, c *mirror.RefreshedCustomer) {
	printed := map[string]bool{} // fields of the customer are in each of its customer meters
	for _, change := range c.Changes {
		for _, d := range change.Fields {
			meter := change.MeterName
			if strings.HasPrefix(d.Field, "customer.") {
				meter = ""
				if printed[d.Field] {
					continue
				}
				printed[d.Field] = true
			}
			table.Add(organization, c.Asked, meter, d.Field, cmp.Or(shorten(d.A), "-"), cmp.Or(shorten(d.B), "-"))
		}
	}
}
