package web

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"html/template"
	"io"
	"strings"

	"github.com/go-analyze/charts"
)

// A chart is drawn with ink that stands for a role. The library writes it as a
// style of each element, which neither follows the reader's colours nor passes
// a content security policy; classesOf makes classes of it, and page.css gives
// those their colours, light or dark.
const (
	inkAxis  = "rgb(1,1,1)"
	inkGrid  = "rgb(2,2,2)"
	inkLabel = "rgb(3,3,3)"
	inkMark  = "rgb(4,4,4)"
)

// plain is a theme of roles.
func plain() charts.ColorPalette {
	ink := func(n uint8) charts.Color { return charts.Color{R: n, G: n, B: n, A: 255} }
	return charts.MakeTheme(charts.ThemeOption{
		AxisStrokeColor:    ink(1),
		AxisSplitLineColor: ink(2),
		TextColor:          ink(3),
		BackgroundColor:    charts.ColorTransparent,
		SeriesColors:       []charts.Color{ink(4)},
	})
}

// A drawing says what a chart shows. Texts are labels of this package's making,
// never what a customer typed.
type drawing struct {
	Labels []string // below the values, one each
	Values []float64
	Gaps   []bool // values that are unknown; nil if none is
	Width  int    // of the drawing area in pixels; it scales with the page
	Height int
	Axes   bool // with labels and a grid
}

const (
	labelSize  = 11 // pixels, at the chart's own size
	yLabels    = 4
	pxPerLabel = 80 // of the axis below
)

// bars draws a bar for each value.
func bars(d drawing) (template.HTML, error) {
	opt := charts.NewBarChartOptionWithData([][]float64{d.Values})
	opt.Theme = plain()
	opt.Padding = d.padding()
	opt.BarSize = 0.7
	opt.CategoryAxis = d.categories()
	opt.ValueAxis = []charts.ValueAxisOption{d.values()}
	return d.draw(func(p *charts.Painter) error { return p.BarChart(opt) })
}

// line draws a line through the values.
func line(d drawing) (template.HTML, error) {
	values := d.Values
	for i, gap := range d.Gaps {
		if gap {
			values[i] = charts.GetNullValue()
		}
	}
	opt := charts.NewLineChartOptionWithData([][]float64{values})
	opt.Theme = plain()
	opt.Padding = d.padding()
	opt.LineStrokeWidth = 1.5
	opt.Symbol = charts.Symbol{Shape: charts.SymbolNone}
	opt.XAxis = d.categories()
	opt.XAxis.BoundaryGap = charts.Ptr(false)
	opt.YAxis = []charts.ValueAxisOption{d.values()}
	return d.draw(func(p *charts.Painter) error { return p.LineChart(opt) })
}

func (d drawing) padding() charts.Box {
	if d.Axes {
		return charts.NewBox(0, 6, 14, 0)
	}
	return charts.NewBox(0, 2, 0, 1)
}

func (d drawing) categories() charts.CategoryAxisOption {
	return charts.CategoryAxisOption{
		Show:           charts.Ptr(d.Axes),
		Labels:         d.Labels,
		LabelCount:     max(2, min(len(d.Labels), d.Width/pxPerLabel)),
		LabelFontStyle: charts.FontStyle{FontSize: labelSize},
	}
}

func (d drawing) values() charts.ValueAxisOption {
	return charts.ValueAxisOption{
		Show:           charts.Ptr(d.Axes),
		LabelCount:     yLabels,
		LabelFontStyle: charts.FontStyle{FontSize: labelSize},
		SplitLineShow:  charts.Ptr(d.Axes),
		ValueFormatter: short,
	}
}

func (d drawing) draw(chart func(*charts.Painter) error) (template.HTML, error) {
	p := charts.NewPainter(charts.PainterOptions{Width: d.Width, Height: d.Height, OutputFormat: charts.ChartOutputSVG})
	if err := chart(p); err != nil {
		return "", fmt.Errorf("draw chart: %w", err)
	}
	svg, err := p.Bytes()
	if err != nil {
		return "", fmt.Errorf("draw chart: %w", err)
	}
	return classesOf(svg)
}

// classesOf writes an SVG anew with classes in place of styles. Nothing but
// shapes and texts, and of these nothing but geometry, passes.
func classesOf(svg []byte) (template.HTML, error) {
	var out strings.Builder
	decoder := xml.NewDecoder(bytes.NewReader(svg))
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return template.HTML(out.String()), nil // of the tags and attributes that open lets pass, texts escaped
		}
		if err != nil {
			return "", fmt.Errorf("read chart: %w", err)
		}
		switch t := token.(type) {
		case xml.StartElement:
			if err := open(&out, t); err != nil {
				return "", err
			}
		case xml.EndElement:
			out.WriteString("</" + t.Name.Local + ">")
		case xml.CharData:
			template.HTMLEscape(&out, t)
		}
	}
}

func open(out *strings.Builder, t xml.StartElement) error {
	switch t.Name.Local {
	case "svg":
		out.WriteString(`<svg aria-hidden="true" focusable="false"`)
	case "path", "text", "circle":
		out.WriteString("<" + t.Name.Local)
	default:
		return fmt.Errorf("chart holds a <%s>", t.Name.Local)
	}
	for _, a := range t.Attr {
		switch a.Name.Local {
		case "viewBox", "d", "x", "y", "cx", "cy", "r":
			fmt.Fprintf(out, ` %s="%s"`, a.Name.Local, template.HTMLEscapeString(strings.ReplaceAll(a.Value, "\n", " ")))
		case "style":
			fmt.Fprintf(out, ` class="%s"`, class(t.Name.Local, a.Value))
		}
	}
	out.WriteString(">")
	return nil
}

// class is the role of an element that was drawn with style.
func class(element, style string) string {
	switch {
	case element == "text":
		return "c-label"
	case strings.Contains(style, "stroke:"+inkAxis):
		return "c-axis"
	case strings.Contains(style, "stroke:"+inkGrid):
		return "c-grid"
	case strings.Contains(style, "stroke:"+inkMark):
		return "c-line"
	case strings.Contains(style, "fill:"+inkMark):
		return "c-mark"
	default:
		return "c-none"
	}
}
