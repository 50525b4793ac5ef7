package console

import (
	"fmt"
	"io"
	"slices"
	"time"

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

// Print writes the table. A text too long for its column is broken over lines.
func (t *Table) Print(w io.Writer) error {
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
	_, err := fmt.Fprintln(w, tw.Render())
	return err
}
