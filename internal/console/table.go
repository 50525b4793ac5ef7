package console

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/dustin/go-humanize"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// A Table is rows of cells under column names. A number is written as by [Count],
// a duration as by [Span]; a column with one of them stands at the right.
type Table struct {
	Columns []string
	Right   []string // further columns that stand at the right, such as digits in texts
	rows    []table.Row
}

// Add adds a row. Cells are texts, integers and durations.
func (t *Table) Add(cells ...any) {
	row := make(table.Row, len(cells))
	for i, cell := range cells {
		switch c := cell.(type) {
		case int:
			row[i] = Count(int64(c))
		case int64:
			row[i] = Count(c)
		case time.Duration:
			row[i] = Span(c)
		default:
			row[i] = Clean(fmt.Sprint(c))
			continue
		}
		t.Right = append(t.Right, t.Columns[i])
	}
	t.rows = append(t.rows, row)
}

// maxColumn is the widest column, in characters.
const maxColumn = 60

// String is the table, "" without rows. A text too long for its column is broken over
// lines.
func (t *Table) String() string {
	if len(t.rows) == 0 {
		return ""
	}
	tw := table.NewWriter()
	style := table.StyleLight
	style.Format.Header = text.FormatDefault
	tw.SetStyle(style)
	var header table.Row
	var configs []table.ColumnConfig
	for _, name := range t.Columns {
		name = Clean(name)
		header = append(header, name)
		c := table.ColumnConfig{Name: name, WidthMax: maxColumn, WidthMaxEnforcer: text.WrapSoft}
		if slices.Contains(t.Right, name) {
			c.Align, c.AlignHeader = text.AlignRight, text.AlignRight
		}
		configs = append(configs, c)
	}
	tw.AppendHeader(header)
	tw.SetColumnConfigs(configs)
	tw.AppendRows(t.rows)
	return tw.Render() + "\n"
}

// Clean makes text one line without control characters, so that what a stranger
// typed as a name cannot move the cursor or recolour a terminal.
func Clean(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.IsControl(r), unicode.Is(unicode.Bidi_Control, r), r == unicode.ReplacementChar:
			return '?'
		}
		return r
	}, text)
}

// Count writes a number with thousands set apart: 12,345.
func Count(n int64) string { return humanize.Comma(n) }

// Plural counts things: 1 row, 2 rows.
func Plural(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return Count(n) + " " + many
}

// Span writes a duration with the two units that matter: 340ms, 3.2s, 4m 5s,
// 2h 10m, 3d 4h.
func Span(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < 0:
		return "-" + Span(-d)
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < 10*time.Second && d%time.Second != 0:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm %ds", d/time.Minute, d%time.Minute/time.Second)
	case d < day:
		return fmt.Sprintf("%dh %dm", d/time.Hour, d%time.Hour/time.Minute)
	default:
		return fmt.Sprintf("%dd %dh", d/day, d%day/time.Hour)
	}
}
