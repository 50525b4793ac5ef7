package localpg

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"go.uber.org/zap"
)

const (
	roleName     = "syncd" // owner of the server; a superuser of it
	databaseName = "syncd"
	serviceName  = "syncd" // in the file of services
	loopback     = "127.0.0.1"

	lockPoll      = 20 * time.Millisecond
	leaveLockWait = 2 * time.Second

	portsTried = 5
)

// Options say which database to run.
type Options struct {
	// DataDir is the folder of the database; it is made if missing (mode 0700).
	DataDir string
	// Log gets one line per event; nil means none.
	Log *zap.Logger
	// Settings are further Postgres settings by name (fsync=off). A server that
	// runs already keeps those it was started with.
	Settings map[string]string
	// BinDir holds the Postgres programs to use; "" means those of an installed
	// Postgres: of the version that wrote the data, else of the newest.
	BinDir string

	// For tests of fetch: pass over what is installed, fetch from another
	// repository than Maven Central, keep it elsewhere.
	ignoreInstalled      bool
	repository, cacheDir string
}

// Server is this process's use of the database. It is safe for concurrent use.
type Server struct {
	home     home
	account  account
	binaries Binaries
	opts     Options
	log      *zap.Logger
	password string
	port     int
	users    *flock.Flock

	stopWatch context.CancelFunc
	watched   sync.WaitGroup

	closing  sync.Once
	closeErr error
}

// Start returns the database of opts.DataDir, ready to be connected to: the
// server that runs there already, or a new one. It waits, as long as ctx
// allows, for another process that is just starting or stopping it and for
// crash recovery. Errors name the cure; ErrNoPostgres means that there is no
// Postgres and none could be fetched.
func Start(ctx context.Context, opts Options) (*Server, error) {
	s, err := newServer(opts)
	if err != nil {
		return nil, err
	}
	starting, err := lock(ctx, s.home.path(startLock))
	if err != nil {
		return nil, explain(err)
	}
	defer starting.Unlock()
	if _, err := s.users.TryRLockContext(ctx, lockPoll); err != nil {
		return nil, fmt.Errorf("use the database in %s: %w", s.home.dir, err)
	}
	if err := s.open(ctx); err != nil {
		// The start may have been cut short with the server half up: stop it,
		// unless somebody else uses it. A crash here leaves a server that the
		// next Start adopts.
		if leaveErr := s.leave(); leaveErr != nil {
			err = fmt.Errorf("%w; then %w", err, leaveErr)
		}
		return nil, err
	}
	watchCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.stopWatch = cancel
	s.watched.Go(func() { s.watch(watchCtx) })
	return s, nil
}

func newServer(opts Options) (*Server, error) {
	h, err := openHome(opts.DataDir)
	if err != nil {
		return nil, err
	}
	acct, err := accountFor(h.path(dataName))
	if err != nil {
		return nil, err
	}
	return &Server{home: h, account: acct, opts: opts, log: cmp.Or(opts.Log, zap.NewNop()), users: flock.New(h.path(usersLock))}, nil
}

// lock waits until ctx ends for the flock(2) on a file, which excludes other
// locks of this process too, and which the kernel drops when the process ends in
// any way. The file is never removed: two holders could then lock different ones.
func lock(ctx context.Context, path string) (*flock.Flock, error) {
	l := flock.New(path)
	if _, err := l.TryLockContext(ctx, lockPoll); err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return l, nil
}

// open makes the server run and sets what its address is made of. The caller
// holds the start lock and the users lock.
func (s *Server) open(ctx context.Context) error {
	s.home.sweep()
	// The folder often lies in a checkout.
	err := errors.Join(s.home.write(".gitignore", "*\n"), s.home.write(servicesName, "["+serviceName+"]\n"))
	if err != nil {
		return err
	}
	if s.password, err = s.home.ensurePassword(); err != nil {
		return err
	}
	if s.binaries, err = s.resolve(ctx); err != nil {
		return err
	}
	if err := s.ensureData(ctx); err != nil {
		return err
	}
	// The port of last time comes first: other programs may know it. A free one
	// may be taken before Postgres has it.
	port := s.home.number(portName)
	for range portsTried {
		if port == 0 {
			if port, err = freePort(); err != nil {
				return err
			}
		}
		if s.port, err = s.ensureRunning(ctx, port); !errors.Is(err, errPortTaken) {
			break
		}
		port = 0
	}
	if err != nil {
		return err
	}
	return errors.Join(s.home.write(portName, strconv.Itoa(s.port)+"\n"), s.home.writePassfile(s.port, s.password))
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", loopback+":0")
	if err != nil {
		return 0, fmt.Errorf("find a free port on %s: %w", loopback, err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// URL is the address for pgx, password included: never log it. pgx is told to
// accept no weaker authentication, so a stranger on the port learns nothing.
func (s *Server) URL() string { return s.url(s.port, databaseName) }

// url names every parameter that pgx would otherwise take from PG* variables of
// the environment or from ~/.postgresql, which are about somebody else's server.
// A service can't be unset in an address: it is set to one of ours, which says
// nothing.
func (s *Server) url(port int, database string) string {
	u := url.URL{
		Scheme: "postgres",
		User:   url.UserPassword(roleName, s.password),
		Host:   net.JoinHostPort(loopback, strconv.Itoa(port)),
		Path:   "/" + database,
		RawQuery: "sslmode=disable&sslnegotiation=&sslcertmode=allow&sslrootcert=&sslcert=&sslkey=&sslpassword=&sslsni=" +
			"&require_auth=scram-sha-256&channel_binding=disable&min_protocol_version=3.0&max_protocol_version=3.0" +
			"&target_session_attrs=any&connect_timeout=10&passfile=" +
			"&application_name=&timezone=UTC&options=" +
			"&service=" + serviceName + "&servicefile=" + escapePath(s.home.path(servicesName)),
	}
	return u.String()
}

// PSQL is the shell line that opens the database while it runs. It holds no
// password but the place of the file that does.
func (s *Server) PSQL() string {
	program := "psql"
	if _, err := exec.LookPath("psql"); err != nil {
		if own, err := exec.LookPath(s.binaries.path("psql")); err == nil {
			program = shellQuote(own)
		}
	}
	return fmt.Sprintf(`%s "postgresql://%s@%s:%d/%s?passfile=%s"`, program, roleName, loopback, s.port, databaseName, escapePath(s.home.path(passfileName)))
}

// escapePath makes a path stand for itself in a libpq address, which knows %XX
// but not "+", and within double quotes in every shell.
func escapePath(path string) string {
	return strings.NewReplacer("+", "%20", "%2F", "/").Replace(url.QueryEscape(path))
}

func shellQuote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// Close ends this process's use, and stops the server if nobody else uses it.
// It takes at most about eight seconds, well below the ten in which Ctrl-C has
// to end the program. When ctx ends it waits for no other process any longer.
// Calls after the first return its result.
func (s *Server) Close(ctx context.Context) error {
	s.closing.Do(func() {
		s.stopWatch()
		s.watched.Wait()
		ctx, cancel := context.WithTimeout(ctx, leaveLockWait)
		defer cancel()
		starting, err := lock(ctx, s.home.path(startLock))
		if err != nil {
			// Somebody is starting right now and will need the server: it is
			// theirs to stop.
			_ = s.users.Unlock()
			return
		}
		defer starting.Unlock()
		s.closeErr = s.leave()
	})
	return s.closeErr
}

// leave gives up the use and stops the server if it was the last. The caller
// holds the start lock, so nobody can begin a use while flock(2) lets go of the
// shared lock to take the exclusive one.
func (s *Server) leave() error {
	defer s.users.Unlock()
	last, err := s.users.TryLock()
	if err != nil {
		return fmt.Errorf("leave the database in %s: %w", s.home.dir, err)
	}
	if !last {
		return nil
	}
	// Once the server is gone its port is free to anybody. The password file
	// names that port, so it goes first.
	return errors.Join(os.RemoveAll(s.home.path(passfileName)), s.stop())
}
