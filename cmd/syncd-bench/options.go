package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// What can be measured, in the order of the tables.
const (
	phaseFirst     = "first"
	phaseUnchanged = "unchanged"
	phaseChanged   = "changed"
	phaseTick      = "tick"
	phaseCost      = "cost"
	phasePaced     = "paced"

	baseDownload = "download"
	baseCopy     = "copy"
	basePlain    = "plain"

	plainFirst     = "plain-first"
	plainUnchanged = "plain-unchanged"
)

func phaseNames() []string {
	return []string{phaseFirst, phaseUnchanged, phaseChanged, phaseTick, phaseCost, phasePaced}
}

func baselineNames() []string { return []string{baseDownload, baseCopy, basePlain} }

// options are what the command line says.
type options struct {
	sizes     []string
	phases    []string
	baselines []string
	only      []string
	settings  []string
	runs      int
	pacedRows int
	syncd     string
	json      bool
}

// A plan is what options come to.
type plan struct {
	sizes     []int
	wanted    map[string]bool // phases and baselines
	settings  map[string]string
	runs      int
	pacedRows int
	syncd     string // path; "" to build it
	parent    string // of the temporary folder; "" for the system's
}

func (o *options) plan() (*plan, error) {
	p := &plan{wanted: map[string]bool{}, settings: map[string]string{}, runs: o.runs, pacedRows: o.pacedRows, syncd: o.syncd}
	for _, text := range o.sizes {
		n, err := strconv.Atoi(strings.ReplaceAll(text, "_", ""))
		if err != nil || n < 1000 {
			return nil, &usageError{fmt.Sprintf("--sizes: %q is no number of customer meters from 1000 on", text)}
		}
		p.sizes = append(p.sizes, n)
	}
	slices.Sort(p.sizes)
	p.sizes = slices.Compact(p.sizes)
	if o.runs < 1 {
		return nil, &usageError{"--runs must be at least 1"}
	}
	if o.pacedRows < 1000 {
		return nil, &usageError{"--paced-rows must be at least 1000"}
	}
	phases, baselines := o.phases, o.baselines
	if len(o.only) > 0 {
		phases, baselines = nil, nil
		for _, name := range o.only {
			if slices.Contains(baselineNames(), name) {
				baselines = append(baselines, name)
			} else {
				phases = append(phases, name)
			}
		}
	}
	for flag, list := range map[string]struct{ given, known []string }{
		"--phases":    {phases, phaseNames()},
		"--baselines": {baselines, baselineNames()},
	} {
		for _, name := range list.given {
			if !slices.Contains(list.known, name) {
				return nil, &usageError{fmt.Sprintf("%s: %q is none of %s", flag, name, strings.Join(list.known, ", "))}
			}
			p.wanted[name] = true
		}
	}
	for _, text := range o.settings {
		name, value, found := strings.Cut(text, "=")
		if !found || name == "" {
			return nil, &usageError{fmt.Sprintf("--postgres-setting: %q is not NAME=VALUE", text)}
		}
		p.settings[name] = value
	}
	return p, nil
}

// wants reports whether any of the names is to be measured.
func (p *plan) wants(names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return p.wanted[name] })
}
