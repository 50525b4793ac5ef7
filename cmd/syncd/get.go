package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"polarmirror/internal/console"
	"polarmirror/internal/mirror"
	"polarmirror/internal/polar"
)

func (p *program) getCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "get ID",
		Short:   "Show one customer meter at Polar beside the mirror's row",
		Long:    "Asks Polar for one customer meter by its id, with each organization's token until\none can see it, and shows it beside the mirror's row.",
		Example: "  syncd get 6f2c1a0e-8d55-4c0f-9d3b-0d7c4b1f2a11",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 || len(args[0]) != 36 || uuid.Validate(args[0]) != nil {
				return &usageError{command: cmd.CommandPath(), problem: "get takes the id of one customer meter, such as 6f2c1a0e-8d55-4c0f-9d3b-0d7c4b1f2a11"}
			}
			if uuid.MustParse(args[0]).Version() != 4 {
				return &usageError{command: cmd.CommandPath(), problem: args[0] + " is no id of Polar's: those are UUIDs of version 4, such as 6f2c1a0e-8d55-4c0f-9d3b-0d7c4b1f2a11"}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.get(cmd.Context(), uuid.MustParse(args[0]))
		},
	}
	p.demoFlag(cmd, "from the demo's simulated Polar, while no syncd --demo runs")
	return cmd
}

func (p *program) get(ctx context.Context, id uuid.UUID) error {
	cfg, err := p.loadConfig()
	if err != nil {
		return err
	}
	p.openLog(cfg.Log, true)
	env, err := p.openEnv(ctx, cfg)
	if err != nil {
		return err
	}
	m, err := p.newMirror(env.cfg, env.db, env.source, nil)
	if err != nil {
		return err
	}
	found, err := m.Lookup(ctx, id)
	if err != nil {
		return err
	}
	if found.Polar == nil && found.Rejected == nil && found.Mirror == nil {
		return fmt.Errorf("customer meter %s: neither Polar, with the configured tokens, nor the mirror has it", id)
	}
	return p.printLookup(found)
}

func (p *program) printLookup(found *mirror.Lookup) error {
	table := console.Table{Columns: []string{"field", "Polar", "mirror", ""}}
	differs := make(map[string]bool, len(found.Differences))
	for _, d := range found.Differences {
		differs[d.Field] = true
	}
	atPolar, mirrored := map[string]string{}, map[string]string{}
	if found.Polar != nil {
		atPolar = fieldsOf(found.Polar)
	}
	if found.Mirror != nil {
		mirrored = fieldsOf(&found.Mirror.CustomerMeter)
	}
	for _, field := range lookupFields() {
		mark := ""
		if differs[field] {
			mark = "differs"
		}
		table.Rows = append(table.Rows, []string{field, orDash(atPolar[field]), orDash(mirrored[field]), mark})
		delete(differs, field)
	}
	for _, d := range found.Differences {
		if differs[d.Field] { // what is shown only then
			table.Rows = append(table.Rows, []string{d.Field, shorten(d.A), shorten(d.B), "differs"})
		}
	}
	if row := found.Mirror; row != nil {
		table.Rows = append(table.Rows,
			[]string{"first_seen_at", "", moment(row.FirstSeenAt), ""},
			[]string{"last_changed_at", "", moment(row.LastChangedAt), ""},
			[]string{"deleted_at", "", moment(row.DeletedAt), ""},
			[]string{"out_of_scope_at", "", moment(row.OutOfScopeAt), ""})
	}
	if err := table.Print(p.stdout); err != nil {
		return err
	}
	return p.remark(found)
}

// remark says in a line what the table alone does not.
func (p *program) remark(found *mirror.Lookup) error {
	text := "Mirror and Polar agree."
	switch {
	case found.Rejected != nil:
		text = "Polar has it, and it cannot be mirrored: " + found.Rejected.Reason
	case found.Polar == nil:
		text = "Polar does not have it, or no configured token can see it."
	case found.Mirror == nil:
		text = "The mirror does not have it yet."
	case len(found.Differences) > 0:
		text = fmt.Sprintf("Fields that differ: %d; syncd verify --repair mends what still does after the next run.", len(found.Differences))
	}
	_, err := fmt.Fprintln(p.stdout, text)
	return err
}

func lookupFields() []string {
	return []string{
		"customer_id", "meter_id", "consumed_units", "credited_units", "balance", "created_at", "modified_at", "extra",
		"customer.external_id", "customer.name", "customer.email", "customer.modified_at", "customer.deleted_at",
		"meter.name", "meter.unit", "meter.modified_at", "meter.archived_at",
	}
}

func fieldsOf(m *polar.CustomerMeter) map[string]string {
	return map[string]string{
		"customer_id":          m.CustomerID.String(),
		"meter_id":             m.MeterID.String(),
		"consumed_units":       m.ConsumedUnits.String(),
		"credited_units":       strconv.FormatInt(m.CreditedUnits, 10),
		"balance":              m.Balance.String(),
		"created_at":           moment(m.CreatedAt),
		"modified_at":          moment(m.ModifiedAt),
		"extra":                shorten(string(m.Extra)),
		"customer.external_id": optional(m.Customer.ExternalID),
		"customer.name":        optional(m.Customer.Name),
		"customer.email":       optional(m.Customer.Email),
		"customer.modified_at": moment(m.Customer.ModifiedAt),
		"customer.deleted_at":  moment(m.Customer.DeletedAt),
		"meter.name":           m.Meter.Name,
		"meter.unit":           m.Meter.Unit,
		"meter.modified_at":    moment(m.Meter.ModifiedAt),
		"meter.archived_at":    moment(m.Meter.ArchivedAt),
	}
}

func optional(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
