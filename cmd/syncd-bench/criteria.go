package main

import "fmt"

// A criterion is one number that has a target.
type criterion struct {
	Rows   int     `json:"rows,omitempty"` // of the size; 0 for none
	Name   string  `json:"name"`
	Value  float64 `json:"value"`
	Target float64 `json:"target"`
	Most   bool    `json:"at_most"` // Target is the most, not the least, that is allowed
	Met    bool    `json:"met"`
}

func atLeast(name string, value, target float64) criterion {
	return criterion{Name: name, Value: value, Target: target, Met: value >= target}
}

func atMost(name string, value, target float64) criterion {
	return criterion{Name: name, Value: value, Target: target, Most: true, Met: value <= target}
}

// criteria of one size, as far as what they need was measured.
func (s *sizeReport) criteria() []criterion {
	var all []criterion
	first, walked := s.phase(phaseFirst)
	if base, ok := s.phase(baseCopy); ok && walked {
		all = append(all, atLeast("first load rate / COPY rate", first.RowsPerSec/base.RowsPerSec, 0.40))
	}
	if base, ok := s.phase(plainFirst); ok && walked {
		all = append(all, atLeast("first load rate / plain script's", first.RowsPerSec/base.RowsPerSec, 3))
	}
	unchanged, again := s.phase(phaseUnchanged)
	if base, ok := s.phase(plainUnchanged); ok && again {
		all = append(all, atLeast("unchanged rate / plain script's", unchanged.RowsPerSec/base.RowsPerSec, 4))
	}
	if again {
		all = append(all,
			atMost("unchanged: new row versions", float64(*unchanged.NewVersions), 0),
			below("unchanged: WAL bytes a row", *unchanged.WALPerRow, 1))
	}
	if walked {
		all = append(all, atMost("first load: client CPU µs a row", first.ClientCPU, 12))
	}
	if again {
		all = append(all, atMost("unchanged: client CPU µs a row", unchanged.ClientCPU, 6))
	}
	if peak := s.peak(); peak > 0 {
		all = append(all, below("peak memory of syncd, MiB", mib(peak), 64))
	}
	all = append(all, s.requestCriteria()...)
	for i := range all {
		all[i].Rows = s.Rows
	}
	return all
}

func (s *sizeReport) requestCriteria() []criterion {
	var all []criterion
	for _, name := range []string{phaseFirst, phaseUnchanged, phaseChanged} {
		if p, ok := s.phase(name); ok {
			most := 1.15*float64(s.Rows)/pageSize + 3
			switch {
			case p.Method == "sweep" && name == phaseFirst:
				most = firstRequests(s.Rows)
			case p.Method == "sweep":
				most = fullRequests(s.Rows)
			}
			all = append(all, atMost(fmt.Sprintf("%s: requests", p.Title), float64(p.Requests), most))
		}
	}
	if p, ok := s.phase(phaseTick); ok {
		all = append(all, atMost("idle tick: requests", float64(p.Requests), 2))
	}
	return all
}

func below(name string, value, limit float64) criterion {
	c := atMost(name, value, limit)
	c.Met = value < limit
	return c
}

// criteria of the whole report.
func (r *report) criteria() []criterion {
	var all []criterion
	for _, s := range r.Sizes {
		all = append(all, s.criteria()...)
	}
	if len(r.Sizes) > 1 {
		smallest, largest := r.Sizes[0], r.Sizes[len(r.Sizes)-1]
		if smallest.peak() > 0 && largest.peak() > 0 {
			name := fmt.Sprintf("peak memory at %s / at %s", count(largest.Rows), count(smallest.Rows))
			all = append(all, atMost(name, float64(largest.peak())/float64(smallest.peak()), 1.2))
		}
	}
	for _, c := range r.Costs {
		all = append(all, c.criteria()...)
	}
	if r.Paced != nil {
		all = append(all, r.Paced.criteria...)
	}
	return all
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }
