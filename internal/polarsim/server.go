package polarsim

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"
)

// A Server is a simulated Polar. Its methods may be called from any goroutine,
// also while requests are served; each is atomic.
type Server struct {
	options Options

	mu            sync.Mutex // guards what follows
	organizations []*organization
	byID          map[uuid.UUID]*organization
	customers     map[uuid.UUID]*customer
	meters        map[uuid.UUID]*meter
	rawCustomers  []*customer // made up for raw rows, in no map
	rawMeters     []*meter    // likewise
	rows          map[uuid.UUID]*row
	tokens        map[string]*account
	quotas        map[string]*window
	perMinute     int
	views         []*view // most recently used first
	made          uint64  // rows made so far
	steps         uint64  // calls of Advance so far
	versions      []string
	chance        *rand.Rand
	ties          *rand.Rand
	webhooks      *Webhooks // nil while none are sent
	cost          Cost

	watch watch
}

// New returns a server with the data that o describes. It panics if o
// contradicts itself, such as by naming one organization twice.
func New(o Options) *Server {
	o = o.withDefaults()
	size := 0
	for _, org := range o.Organizations {
		size += org.CustomerMeters
	}
	s := &Server{
		options:   o,
		byID:      make(map[uuid.UUID]*organization),
		customers: make(map[uuid.UUID]*customer, size/4),
		meters:    make(map[uuid.UUID]*meter),
		rows:      make(map[uuid.UUID]*row, size),
		tokens:    make(map[string]*account),
		quotas:    make(map[string]*window),
		perMinute: o.RequestsPerMinute,
		versions:  versions(),
		chance:    newRand(o.Seed, 1),
		ties:      newRand(o.Seed, 2),
	}
	s.watch.init(newRand(o.Seed, 3))
	for _, org := range o.Organizations {
		s.addOrganization(org)
	}
	for _, t := range o.Tokens {
		s.tokens[t.Secret] = &account{Token: t}
	}
	return s
}

func newRand(seed, stream uint64) *rand.Rand {
	return rand.New(rand.NewPCG(mix(seed), mix(stream)))
}

func (s *Server) addOrganization(o Organization) {
	chance := newRand(s.options.Seed, hashString(o.Name))
	id := newID(chance)
	if o.ID == uuid.Nil {
		o.ID = id
	}
	if secret := newID(chance); o.Token == "" {
		o.Token = fmt.Sprintf("polar_oat_%x", secret[:])
	}
	if s.byID[o.ID] != nil {
		panic(fmt.Sprintf("polarsim: organization %s twice", o))
	}
	if s.tokens[o.Token] != nil {
		panic(fmt.Sprintf("polarsim: organization %s shares another's token", o))
	}
	org := &organization{Organization: o}
	s.organizations = append(s.organizations, org)
	s.byID[o.ID] = org
	s.tokens[o.Token] = &account{Token: Token{Secret: o.Token, Organizations: []uuid.UUID{o.ID}}}
	s.seed(org, chance)
}

// Organizations returns the organizations with the ids and tokens they got.
func (s *Server) Organizations() []Organization {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]Organization, len(s.organizations))
	for i, o := range s.organizations {
		all[i] = o.Organization
	}
	return all
}

// now is the server's clock at the precision of the API.
func (s *Server) now() int64 { return micros(s.options.Now()) }

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a, err := s.respond(r)
	if err != nil || a.drop {
		panic(http.ErrAbortHandler) // closes the connection
	}
	a.send(w, r, s.watch.released())
}

// respond does everything about one request but putting the answer on a wire.
// Its error is the request's context's.
func (s *Server) respond(r *http.Request) (*answer, error) {
	n, hook := s.watch.begin(r, s.options.Now())
	if hook != nil {
		hook(n, r)
	}
	fault := s.watch.fault(n, r)
	if fault == Hang {
		select {
		case <-s.watch.released():
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	a := s.disturbed(fault)
	if a == nil {
		a = s.answer(r, n, fault)
		a.spoil(fault)
	}
	if err := s.delay(r, a); err != nil {
		return nil, err
	}
	a.header.Set("Date", s.options.Now().UTC().Format(http.TimeFormat))
	if a.to != nil {
		s.warm(a.to)
	}
	s.watch.end(n, a.status)
	return a, nil
}

// delay comes after the snapshot was taken, as the slow part of a statement
// does: a slow answer is an old answer.
func (s *Server) delay(r *http.Request, a *answer) error {
	return sleep(r, s.options.Latency+time.Duration(a.depth)*s.options.LatencyPerRow+s.scaled(a.took))
}
