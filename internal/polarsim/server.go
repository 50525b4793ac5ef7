package polarsim

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net"
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
	customers     map[uuid.UUID]*customer
	meters        map[uuid.UUID]*meter
	rows          map[uuid.UUID]*row
	tokens        map[string]*account
	views         map[string]*view // by filter and order
	versions      []string
	chance        *rand.Rand
	ties          *rand.Rand
	webhooks      *Webhooks // nil while none are sent
	requests      int       // begun
	log           []*Request
	before        func(n int, r *http.Request)
	choose        func(n int, r *http.Request) Fault
}

// New returns a server with the data that o describes. It panics if o
// contradicts itself, such as by naming one organization twice.
func New(o Options) *Server {
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Epoch = cmp.Or(o.Epoch, o.Now().Truncate(time.Hour))
	s := &Server{
		options:   o,
		customers: make(map[uuid.UUID]*customer),
		meters:    make(map[uuid.UUID]*meter),
		rows:      make(map[uuid.UUID]*row),
		tokens:    make(map[string]*account),
		views:     make(map[string]*view),
		// The deprecated version, the current one and the next are equal for the
		// calls simulated here.
		versions: []string{"2026-04", currentVersion, "2027-01"},
		chance:   newRand(o.Seed, 1),
		ties:     newRand(o.Seed, 2),
	}
	for _, org := range o.Organizations {
		s.addOrganization(org)
	}
	return s
}

// newRand returns a source of chance that depends on a seed and on what it is for.
func newRand(seed, purpose uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, purpose)) }

func (s *Server) addOrganization(o Organization) {
	name := fnv.New64a()
	name.Write([]byte(o.Name)) // a hash takes everything
	chance := newRand(s.options.Seed, name.Sum64())
	id, secret := newID(chance), newID(chance)
	if o.ID == uuid.Nil {
		o.ID = id
	}
	if o.Token == "" {
		o.Token = fmt.Sprintf("polar_oat_%x", secret[:])
	}
	if s.tokens[o.Token] != nil {
		panic(fmt.Sprintf("polarsim: organization %s is there already, or another has its token", o))
	}
	org := &organization{Organization: o}
	s.organizations = append(s.organizations, org)
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
func (s *Server) now() time.Time { return precise(s.options.Now()) }

func precise(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// respond does everything about one request but putting the answer on a wire.
// It returns an error if the request gets no answer.
func (s *Server) respond(r *http.Request) (*http.Response, error) {
	line, fault := s.begin(r)
	a := disturbed(fault)
	if a == nil && fault != Dropped {
		a = s.answer(line, r, fault)
	}
	if a == nil {
		return nil, errDropped
	}
	if fault == CutBody {
		a.Body = io.NopCloser(io.MultiReader(io.LimitReader(a.Body, a.ContentLength/2), broken{}))
	}
	// The delay comes after the snapshot was taken, as the slow part of a
	// statement does: a slow answer is an old answer.
	if err := sleep(r, s.options.Latency+s.scaled(a.took)); err != nil {
		return nil, err
	}
	a.Request = r
	a.Header.Set("Date", s.options.Now().UTC().Format(http.TimeFormat))
	s.mu.Lock()
	defer s.mu.Unlock()
	line.Status = a.StatusCode
	if a.to != nil {
		a.to.answered = s.options.Now()
	}
	return &a.Response, nil
}

// Running is a server that listens.
type Running struct {
	URL    string // such as http://127.0.0.1:40123
	server *http.Server
	served sync.WaitGroup
}

// Start serves s on a free port of the loopback interface until Close.
func (s *Server) Start() (*Running, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start simulated Polar: %w", err)
	}
	r := &Running{URL: "http://" + listener.Addr().String(), server: &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}}
	r.served.Go(func() { _ = r.server.Serve(listener) }) // ends with Close
	return r, nil
}

// Close stops listening and breaks every connection.
func (r *Running) Close() error {
	err := r.server.Close()
	r.served.Wait()
	return err
}
