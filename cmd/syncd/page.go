package main

import (
	"crypto/sha256"

	"polarmirror/internal/config"
	"polarmirror/internal/mirror"
	"polarmirror/internal/web"
)

// openPage makes the status page, which is closed when the program ends.
func (o *observability) openPage(p *program, cfg *config.Config, db *database, schedules mirror.Schedules) (*web.Page, error) {
	page, err := web.NewPage(web.PageOptions{
		Store:    db.Store,
		Settings: pageSettings(cfg, schedules),
		Walks:    o.walks,
		Version:  thisBuild().Version,
		Log:      p.log,
	})
	if err != nil {
		return nil, err
	}
	o.pages = page
	return page, nil
}

// pageSettings are what the page shows of the configuration: no secret is among
// them.
func pageSettings(cfg *config.Config, schedules mirror.Schedules) web.PageSettings {
	s := web.PageSettings{Incremental: schedules.Incremental, Full: schedules.Full, MaxLag: cfg.HTTP.MaxLag}
	type token struct {
		file string
		sum  [sha256.Size]byte
	}
	numbers := map[token]int{}
	for _, org := range cfg.Organizations {
		t := token{org.AccessToken.File, org.AccessToken.Value.Sum()}
		n, ok := numbers[t]
		if !ok {
			n = len(numbers)
			numbers[t] = n
		}
		s.Organizations = append(s.Organizations, web.PageOrganization{
			Name:              org.Name,
			Token:             n,
			RequestsPerMinute: cfg.Polar.RequestsPerMinute,
		})
	}
	return s
}

// progresses tells several of the progress of walks.
type progresses []mirror.Progress

// Walking implements [mirror.Progress].
func (all progresses) Walking(organization string, at mirror.Position) {
	for _, one := range all {
		one.Walking(organization, at)
	}
}

// Walked implements [mirror.Progress].
func (all progresses) Walked(organization string, at mirror.Position, err error) {
	for _, one := range all {
		one.Walked(organization, at, err)
	}
}
