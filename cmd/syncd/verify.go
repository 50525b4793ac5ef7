package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"polarmirror/internal/console"
	"polarmirror/internal/mirror"
	"polarmirror/internal/store"
)

// maxShown is how many findings of an organization are printed as a table; the
// JSON has them all.
const maxShown = 50

// errDifferent ends verify with exit code 1.
var errDifferent = errors.New("the mirror differs from Polar; syncd verify --repair repairs what was found")

func (p *program) verifyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Read every page again and compare it with the mirror",
		Long: `Reads every page again, compares it digit by digit with the mirror, and prints
which rows are missing, extra or different. A difference counts only if it is
still there after the row was asked for by itself and the mirror was read again;
what changed at Polar since the last successful run is no difference. No row is
written and no lock is held, so it may run while the service does; only the
schema is brought up to date first, as the service does.

Exit code 1 means that a difference was found, also if --repair repaired it.`,
		Example: "  syncd verify\n  syncd verify --walk\n  syncd verify --organization acme --json\n  syncd verify --repair\n  syncd verify --demo",
		Args:    cobra.NoArgs,
		RunE:    p.verify,
	}
	p.jsonFlag(cmd)
	cmd.Flags().BoolVar(&p.flags.repair, "repair", false, "then repair what was found, row by row as Polar answers")
	cmd.Flags().BoolVar(&p.flags.walk, "walk", false, "prove by overlapping pages, whatever the size")
	p.demoFlag(cmd, "the demo's mirror and its simulated Polar, whether or not syncd --demo is running")
	return cmd
}

func (p *program) verify(cmd *cobra.Command, _ []string) error {
	ctx, repair := cmd.Context(), p.flags.repair
	e, err := p.openMirror(ctx, true)
	if err != nil {
		return err
	}
	p.showProgress(true)
	reports, err := printReports(ctx, p, differencesAs("polar", "mirror"), verifyText, func() ([]verifyReport, error) {
		reports, err := e.mirror.Verify(ctx, repair)
		return verifyReports(reports), err
	})
	if err != nil {
		return err
	}
	equal, repaired, left := true, 0, 0
	for _, r := range reports {
		equal = equal && r.Equal
		repaired += r.Repaired
		left += len(r.Findings) - r.Repaired + r.Unread
	}
	switch {
	case equal:
		return nil
	case !repair:
		return errDifferent
	case left > 0:
		return fmt.Errorf("the mirror differed from Polar; %s repaired, %d left: run syncd --backfill, and then verify again", console.Plural(int64(repaired), "row", "rows"), left)
	default:
		return errors.New("the mirror differed from Polar; what was found has been repaired")
	}
}

func verifyText(reports []verifyReport) string {
	table := console.Table{Columns: []string{"organization", "rows", "missing", "extra", "different", "changed since", "rejected", "repaired", "requests", "duration", "result"}}
	for _, r := range reports {
		kinds, result := countFindings(r.Report), "equal"
		if !r.Equal {
			result = "different"
		}
		table.Add(r.Organization, r.Rows, kinds[mirror.Missing], kinds[mirror.Extra], kinds[mirror.Different], r.Behind, r.Rejected, r.Repaired, r.Requests, r.Elapsed, result)
	}
	text := table.String()
	for _, r := range reports {
		text += findingsText(r.Report)
	}
	return text
}

func countFindings(r *mirror.Report) map[mirror.FindingKind]int {
	counts := make(map[mirror.FindingKind]int)
	for _, f := range r.Findings {
		counts[f.Kind]++
	}
	return counts
}

// findingsText names the rows: a line for each field that differs.
func findingsText(r *mirror.Report) string {
	if r.Equal() {
		return ""
	}
	table := console.Table{Columns: []string{"customer meter", "finding", "field", "Polar", "mirror"}}
	for _, f := range r.Findings[:min(len(r.Findings), maxShown)] {
		if len(f.Fields) == 0 {
			table.Add(f.ID, f.Kind, "", "", "")
		}
		for _, d := range f.Fields {
			table.Add(f.ID, f.Kind, d.Field, shorten(d.A), shorten(d.B))
		}
	}
	text := fmt.Sprintf("\n%s:\n%s", r.Organization, &table)
	if more := len(r.Findings) - maxShown; more > 0 {
		text += fmt.Sprintf("and %s more (--json has them)\n", console.Count(int64(more)))
	}
	if r.Unread > 0 {
		text += fmt.Sprintf("and %s more that seemed to differ: too many to read again\n", console.Count(int64(r.Unread)))
	}
	if countFindings(r)[mirror.Extra] > 0 {
		text += "Extra rows no longer exist at Polar; the next full run marks them deleted, except those first seen in the last ten minutes.\n"
	}
	return text
}

// shorten keeps a cell of a table readable.
func shorten(s string) string {
	const most = 60
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

// A verifyReport is one organization in syncd verify --json.
type verifyReport struct {
	*mirror.Report
	Equal   bool          `json:"equal"`
	Method  *store.Method `json:"method"` // by which it is proven; null if it is not exact
	Seconds float64       `json:"seconds"`
}

func verifyReports(reports []mirror.Report) []verifyReport {
	list := make([]verifyReport, len(reports))
	for i := range reports {
		r := &reports[i]
		list[i] = verifyReport{Report: r, Equal: r.Equal(), Seconds: r.Elapsed.Seconds()}
		if r.Exact {
			list[i].Method = &r.Method
		}
	}
	return list
}
