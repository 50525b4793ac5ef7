package docs

import (
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jedib0t/go-pretty/v6/text"
)

// table renders a result as psql does, numbers to the right.
func table(result *pgconn.Result) string {
	lines := [][]string{{}}
	for _, f := range result.FieldDescriptions {
		lines[0] = append(lines[0], f.Name)
	}
	for _, row := range result.Rows {
		var line []string
		for _, value := range row {
			line = append(line, string(value))
		}
		lines = append(lines, line)
	}
	widths := make([]int, len(lines[0]))
	for _, line := range lines {
		for i, cell := range line {
			widths[i] = max(widths[i], text.StringWidthWithoutEscSequences(cell))
		}
	}
	var b strings.Builder
	for n, line := range lines {
		for i, cell := range line {
			pad := strings.Repeat(" ", widths[i]-text.StringWidthWithoutEscSequences(cell))
			if isNumber(result.FieldDescriptions[i].DataTypeOID) {
				cell, pad = pad+cell, ""
			}
			line[i] = cell + pad
		}
		b.WriteString(strings.TrimRight(" "+strings.Join(line, " | "), " ") + "\n")
		if n == 0 {
			b.WriteString(rule(widths))
		}
	}
	return b.String()
}

func rule(widths []int) string {
	var parts []string
	for _, width := range widths {
		parts = append(parts, strings.Repeat("-", width+2))
	}
	return strings.Join(parts, "+") + "\n"
}

func isNumber(oid uint32) bool {
	switch oid {
	case pgtype.NumericOID, pgtype.Int8OID, pgtype.Int4OID, pgtype.Float8OID:
		return true
	}
	return false
}
