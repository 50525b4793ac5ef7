package console

import (
	"fmt"
	"io"
	"slices"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// A Table is rows of text under column names.
type Table struct {
	Columns []string
	Rows    [][]string
	Right   []string // columns whose text stands at the right, such as numbers
}

// maxColumn is the widest column, in characters.
const maxColumn = 60

// Print writes the table. A text too long for its column is broken over lines.
func (t Table) Print(w io.Writer) error {
	tw := table.NewWriter()
	style := table.StyleLight
	style.Format.Header = text.FormatDefault
	tw.SetStyle(style)
	tw.AppendHeader(clean(t.Columns))
	var configs []table.ColumnConfig
	for _, name := range t.Columns {
		c := table.ColumnConfig{Name: name, WidthMax: maxColumn, WidthMaxEnforcer: text.WrapSoft}
		if slices.Contains(t.Right, name) {
			c.Align, c.AlignHeader = text.AlignRight, text.AlignRight
		}
		configs = append(configs, c)
	}
	tw.SetColumnConfigs(configs)
	for _, row := range t.Rows {
		tw.AppendRow(clean(row))
	}
	_, err := fmt.Fprintln(w, tw.Render())
	return err
}

func clean(cells []string) (row table.Row) {
	for _, c := range cells {
		row = append(row, Clean(c))
	}
	return row
}
