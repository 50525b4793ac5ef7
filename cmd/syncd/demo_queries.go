package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"polarmirror/internal/console"
)

// A shownQuery is one that the demo runs and prints with its result.
type shownQuery struct {
	title string
	sql   string
	right []string // columns of numbers
}

// latestChanges is worth repeating while rows change.
const latestChanges = `SELECT
    organization,
    customer_name,
    meter_name,
    consumed_units,
    balance,
    change_seen_at
  FROM polar.customer_meter_overview
 ORDER BY change_seen_at DESC
 LIMIT 5;`

func shownQueries() []shownQuery {
	return []shownQuery{
		{
			title: "What a customer typically uses, and how many have used more than they were credited:",
			sql: `SELECT
    organization,
    meter_name,
    count(*) AS customers,
    count(*) FILTER (WHERE consumed_units > 0) AS active,
    percentile_disc(0.5) WITHIN GROUP (ORDER BY consumed_units)
        FILTER (WHERE consumed_units > 0) AS median_units,
    count(*) FILTER (WHERE balance < 0) AS overdrawn
  FROM polar.customer_meter_overview
 GROUP BY organization, meter_name
 ORDER BY organization, meter_name;`,
			right: []string{"customers", "active", "median_units", "overdrawn"},
		},
		{
			title: "Who of acme's customers is about to run out:",
			sql: `SELECT
    customer_name,
    meter_name,
    credited_units,
    balance,
    round(100 * balance / credited_units, 1) AS percent_left
  FROM polar.customer_meter_overview
 WHERE organization = 'acme'
   AND balance > 0
   AND balance < 0.05 * credited_units
 ORDER BY percent_left, balance
 LIMIT 5;`,
			right: []string{"credited_units", "balance", "percent_left"},
		},
		{
			title: "Quantities keep every digit that Polar sent, however long:",
			sql: `SELECT
    organization,
    customer_name,
    meter_name,
    consumed_units,
    balance
  FROM polar.customer_meter_overview
 ORDER BY length(consumed_units::text) DESC, customer_meter_id
 LIMIT 5;`,
			right: []string{"consumed_units", "balance"},
		},
	}
}

// show runs the demo's queries and prints each with its result.
func (w *world) show(ctx context.Context, out io.Writer) error {
	for _, q := range shownQueries() {
		result, err := w.db.Query(ctx, q.sql)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(out, "\n%s\n\n%s\n\n", q.title, indent(q.sql)); err != nil {
			return err
		}
		table := console.Table{Columns: result.Columns, Rows: result.Rows, Right: q.right}
		if err := table.Print(out); err != nil {
			return err
		}
	}
	return nil
}

func indent(text string) string {
	return "  " + strings.ReplaceAll(text, "\n", "\n  ")
}
