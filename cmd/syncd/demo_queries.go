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
			title: "Who runs out next, at the pace of the last seven days:",
			sql: `SELECT
    o.organization,
    o.customer_name,
    o.meter_name,
    o.balance,
    round(b.units_per_day, 2) AS units_per_day,
    to_char(b.zero_at, 'FMDay HH24:MI') AS zero_at
  FROM polar.burn_rate b
  JOIN polar.customer_meter_overview o USING (customer_meter_id)
 WHERE b.zero_at IS NOT NULL
 ORDER BY b.zero_at
 LIMIT 5;`,
			right: []string{"balance", "units_per_day"},
		},
		{
			title: "What acme's customers used in the last seven days, and in the seven before:",
			sql: `SELECT
    m.name AS meter_name,
    count(DISTINCT u.customer_id) AS customers,
    trim_scale(sum(u.consumed_units) FILTER (WHERE u.day > current_date - 7)) AS last_week,
    trim_scale(sum(u.consumed_units) FILTER (WHERE u.day <= current_date - 7)) AS week_before
  FROM polar.usage_daily u
  JOIN polar.meters m ON m.id = u.meter_id
  JOIN polar.organizations o ON o.id = u.organization_id
 WHERE o.name = 'acme'
   AND u.day > current_date - 14
 GROUP BY m.name
 ORDER BY m.name;`,
			right: []string{"customers", "last_week", "week_before"},
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
 LIMIT 3;`,
			right: []string{"consumed_units", "balance"},
		},
	}
}

// showQueries runs the demo's queries and prints each with its result.
func showQueries(ctx context.Context, out io.Writer, db *database) error {
	for _, q := range shownQueries() {
		result, err := db.Query(ctx, q.sql)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(out, "\n%s\n\n%s\n\n", q.title, indent(q.sql)); err != nil {
			return err
		}
		table := console.Table{Columns: result.Columns, Right: q.right}
		for _, row := range result.Rows {
			table.Add(row...)
		}
		if err := table.Print(out); err != nil {
			return err
		}
	}
	return nil
}

func indent(text string) string {
	return "  " + strings.ReplaceAll(text, "\n", "\n  ")
}
