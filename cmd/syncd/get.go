package main

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
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
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 || len(args[0]) != 36 || uuid.Validate(args[0]) != nil || uuid.MustParse(args[0]).Version() != 4 {
				return errors.New("get takes the id of one customer meter at Polar, a UUID of version 4 such as 6f2c1a0e-8d55-4c0f-9d3b-0d7c4b1f2a11")
			}
			return nil
		},
		RunE: p.get,
	}
	p.demoFlag(cmd, "from the demo's simulated Polar, whether or not syncd --demo is running")
	return cmd
}

func (p *program) get(cmd *cobra.Command, args []string) error {
	id := uuid.MustParse(args[0])
	e, err := p.openMirror(cmd.Context(), true)
	if err != nil {
		return err
	}
	found, err := e.mirror.Lookup(cmd.Context(), id)
	if err != nil {
		return err
	}
	if found.Polar == nil && found.Rejected == nil && found.Mirror == nil {
		return fmt.Errorf("customer meter %s: neither Polar, with the configured tokens, nor the mirror has it", id)
	}
	return p.print(lookupText(found))
}

func lookupText(found *mirror.Lookup) string {
	var atPolar, mirrored []polar.Field
	if found.Polar != nil {
		atPolar = found.Polar.Fields()
	}
	if found.Mirror != nil {
		mirrored = found.Mirror.Fields()
	}
	differs := make(map[string]bool, len(found.Differences))
	for _, d := range found.Differences {
		differs[d.Field] = true
	}
	table := console.Table{Columns: []string{"field", "Polar", "mirror", "compared"}}
	for i := range max(len(atPolar), len(mirrored)) {
		name, values, compared := "", [2]string{"-", "-"}, ""
		for side, fields := range [][]polar.Field{atPolar, mirrored} {
			if i < len(fields) {
				name = fields[i].Name
				values[side] = cmp.Or(shorten(fields[i].String()), "-")
			}
		}
		if differs[name] {
			compared = "differs"
		} else if strings.HasSuffix(name, ".raw") { // whose fields are shown already
			continue
		}
		table.Add(name, values[0], values[1], compared)
	}
	if row := found.Mirror; row != nil {
		table.Add("first_seen_at", "", moment(row.FirstSeenAt), "")
		table.Add("last_changed_at", "", moment(row.LastChangedAt), "")
		table.Add("deleted_at", "", moment(row.DeletedAt), "")
		table.Add("out_of_scope_at", "", moment(row.OutOfScopeAt), "")
	}
	return table.String() + remark(found) + "\n"
}

// remark says in a line what the table alone does not.
func remark(found *mirror.Lookup) string {
	switch {
	case found.Rejected != nil:
		return "Polar has it, and it cannot be mirrored: " + found.Rejected.Reason
	case found.Polar == nil:
		return "Polar does not have it, or no configured token can see it."
	case found.Mirror == nil:
		return "The mirror does not have it yet."
	case len(found.Differences) > 0:
		return fmt.Sprintf("Fields that differ: %d; syncd verify --repair repairs what still does after the next run.", len(found.Differences))
	}
	return "Mirror and Polar agree."
}

func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}
