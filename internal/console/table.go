package console

import (
	"fmt"
	"io"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// A Table is rows of text under column names.
type Table struct {
	Columns []string
	Rows    [][]string
	Right   []string // columns whose text stands at the right, such as numbers
}

// Print writes the table. A text too long for its column is broken over lines.
func (t Table) Print(w io.Writer) error {
	tw := table.NewWriter()
	style := table.StyleLight
	style.Format.Header = text.FormatDefault
	tw.SetStyle(style)
	tw.AppendHeader(toRow(t.Columns))
	var configs []table.ColumnConfig
	for _, name := range t.Columns {
		configs = append(configs, table.ColumnConfig{Name: name, WidthMax: maxColumn, WidthMaxEnforcer: text.WrapSoft})
	}
	for i, name := range t.Columns {
		for _, right := range t.Right {
			if name == right {
				configs[i].Align, configs[i].AlignHeader = text.AlignRight, text.AlignRight
			}
		}
	}
	tw.SetColumnConfigs(configs)
	for _, row := range t.Rows {
		tw.AppendRow(toRow(row))
	}
	_, err := fmt.Fprintln(w, tw.Render())
	return err
}

// maxColumn is the widest column, in characters.
const maxColumn = 60

func toRow(cells []string) table.Row {
	row := make(table.Row, len(cells))
	for i, c := range cells {
		row[i] = Clean(c)
	}
	return row
}
