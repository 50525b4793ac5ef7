package mirror

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"polarmirror/internal/polarsim"
	"polarmirror/internal/secret"
	"polarmirror/internal/store"
)

// inherited are values that syncd must not run with, and what it has instead.
var inherited = []struct{ name, value, want string }{
	{"client_encoding", "LATIN1", "UTF8"},
	{"client_encoding", "SQL_ASCII", "UTF8"},
	{"standard_conforming_strings", "off", "on"},
	{"DateStyle", "German,DMY", "ISO, MDY"},
	{"IntervalStyle", "sql_standard", "postgres"},
	{"TimeZone", "Asia/Kathmandu", "UTC"},
	{"bytea_output", "escape", "hex"},
	{"extra_float_digits", "-15", "1"},
	{"array_nulls", "off", "on"},
	{"default_transaction_isolation", "serializable", "read committed"},
	{"default_transaction_isolation", "repeatable read", "read committed"},
	{"row_security", "off", "on"},
	{"exit_on_error", "on", "off"},
	{"search_path", "public", ""},
	{"statement_timeout", "10min", "0"},
	{"lock_timeout", "1", "0"},
	{"transaction_timeout", "10min", "0"}, // since Postgres 17
	{"idle_in_transaction_session_timeout", "10min", "0"},
	{"idle_session_timeout", "10min", "0"},
	{"tcp_user_timeout", "0", "25000"},
	{"client_connection_check_interval", "0", "2s"},
}

// driver are options of pgx and its pool that our statements could not live with.
var driver = []struct{ name, value string }{
	{"default_query_exec_mode", "simple_protocol"},
	{"default_query_exec_mode", "exec"},
	{"default_query_exec_mode", "describe_exec"},
	{"default_query_exec_mode", "cache_describe"},
	{"statement_cache_capacity", "0"},
	{"description_cache_capacity", "0"},
	{"pool_max_conns", "1"},
	{"pool_min_conns", "50"},
	{"pool_min_idle_conns", "50"},
	{"pool_max_conn_lifetime", "1ns"},
	{"pool_max_conn_lifetime_jitter", "-1h"},
	{"pool_max_conn_idle_time", "1ns"},
	{"pool_health_check_period", "0s"},
	{"pool_ping_timeout", "-1s"},
}

// TestMirrorIsExactWhateverItInherits sets each value in the database, for the
// role and in the URL, both ways, and runs a full run: the values are exact, and
// the connection that wrote them had the setting that is wanted.
func TestMirrorIsExactWhateverItInherits(t *testing.T) {
	t.Parallel()
	large(t)
	for _, s := range inherited {
		t.Run(s.name+"="+s.value, func(t *testing.T) {
			t.Parallel()
			w := settingsWorld(t)
			if !w.knows(s.name) {
				return
			}
			for _, place := range []string{`DATABASE "` + w.db.Name + `"`, `ROLE CURRENT_USER IN DATABASE "` + w.db.Name + `"`} {
				w.exec(`ALTER ` + place + ` SET ` + s.name + ` = ` + quoted(s.value))
				w.exactUnder(with(w), s.name, s.want)
				w.exec(`ALTER ` + place + ` RESET ` + s.name)
			}
			w.exactUnder(with(w, s.name, s.value), s.name, s.want)
			w.exactUnder(with(w, "options", option(s.name, s.value)), s.name, s.want)
		})
	}
	for _, s := range driver {
		t.Run(s.name+"="+s.value, func(t *testing.T) {
			t.Parallel()
			w := settingsWorld(t)
			w.exactUnder(with(w, s.name, s.value), "TimeZone", "UTC")
		})
	}
}

// TestMirrorIsExactWhateverTheEnvironmentSets is the same with PGOPTIONS and
// PGTZ, which connections to the user's database honor.
func TestMirrorIsExactWhateverTheEnvironmentSets(t *testing.T) {
	large(t)
	w := settingsWorld(t)
	t.Setenv("PGTZ", "Asia/Kathmandu")
	t.Setenv("PGAPPNAME", "from the environment")
	for _, s := range inherited {
		t.Run(s.name+"="+s.value, func(t *testing.T) {
			if !w.knows(s.name) {
				return
			}
			t.Setenv("PGOPTIONS", option(s.name, s.value))
			w.exactUnder(with(w), s.name, s.want)
			if got := w.value(`SELECT application FROM public.seen LIMIT 1`); got != "from the environment" {
				t.Errorf("the environment is not honored: application_name is %s", got)
			}
		})
	}
}

func settingsWorld(t *testing.T) *world {
	t.Helper()
	return newWorld(t, polarsim.Options{Seed: 7, Organizations: []polarsim.Organization{{Name: "acme", CustomerMeters: 250}}})
}

func (w *world) knows(setting string) bool {
	return w.value(`SELECT (current_setting($1, true) IS NOT NULL)::text`, setting) == "true"
}

// exactUnder empties the mirror and runs a full run through address, in which
// setting must be want.
func (w *world) exactUnder(address, setting, want string) {
	w.Helper()
	w.exec(`TRUNCATE polar.organizations CASCADE`)
	w.exec(`DROP TABLE IF EXISTS public.seen`)
	w.exec(`CREATE TABLE public.seen (value text, application text)`)
	w.exec(fmt.Sprintf(`CREATE OR REPLACE FUNCTION public.see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		INSERT INTO public.seen VALUES (pg_catalog.current_setting('%s'), pg_catalog.current_setting('application_name')); RETURN NEW; END $$`, setting))
	w.exec(`CREATE OR REPLACE TRIGGER see BEFORE INSERT ON polar.sync_runs FOR EACH ROW EXECUTE FUNCTION public.see()`)
	st, err := store.Open(w.Context(), store.Options{URL: secret.New(address), MaxConnections: 7})
	if err != nil {
		w.Fatal(err)
	}
	defer st.Close()
	w.backfill(func(o *Options) { o.Store = st })
	w.same()
	if got := w.value(`SELECT string_agg(DISTINCT value, '|') FROM public.seen`); got != want {
		w.Errorf("%s is %s in the connection that writes, want %s", setting, got, want)
	}
	if err := st.Rehearse(w.Context()); err != nil {
		w.Error(err)
	}
}

// with returns the database's address as a user writes it, without the parameters
// that the embedded database's names, and with those given as name and value.
func with(w *world, parameters ...string) string {
	w.Helper()
	u, err := url.Parse(w.db.URL)
	if err != nil {
		w.Fatal(err)
	}
	q := url.Values{"sslmode": {"disable"}}
	for i := 0; i < len(parameters); i += 2 {
		q.Set(parameters[i], parameters[i+1])
	}
	u.RawQuery = strings.ReplaceAll(q.Encode(), "+", "%20") // Postgres's addresses know no plus
	return u.String()
}

func option(name, value string) string {
	return "-c " + name + "=" + strings.ReplaceAll(value, " ", `\ `)
}

func quoted(value string) string {
	if strings.Contains(value, ",") {
		return value // a list
	}
	return "'" + value + "'"
}
