package mirror

import (
	"net/url"
	"strings"
	"testing"

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

// driver are options of pgx and its pool that our statements could not live with,
// in sets that do not contradict themselves.
var driver = [][]string{
	{"default_query_exec_mode", "simple_protocol", "statement_cache_capacity", "0", "pool_max_conns", "1"},
	{"default_query_exec_mode", "exec", "description_cache_capacity", "0", "pool_min_conns", "50", "pool_min_idle_conns", "50"},
	{"default_query_exec_mode", "describe_exec", "pool_max_conn_lifetime", "1ns", "pool_max_conn_idle_time", "1ns"},
	{"default_query_exec_mode", "cache_describe", "pool_max_conn_lifetime_jitter", "-1h", "pool_health_check_period", "0s", "pool_ping_timeout", "-1s"},
}

// TestMirrorIsExactWhateverItInherits sets the values in the database, for the role,
// and in the URL both ways, and runs a full run: the values are exact, and the
// connection that wrote them had the settings that are wanted.
func TestMirrorIsExactWhateverItInherits(t *testing.T) {
	t.Parallel()
	large(t)
	shared := settingsEnv(t)
	// emptied is the env as the first test found it.
	emptied := func(t *testing.T) *env {
		w := *shared
		w.TB = t
		w.exec(`ALTER DATABASE "` + w.db.Name + `" RESET ALL`)
		w.exec(`ALTER ROLE CURRENT_USER IN DATABASE "` + w.db.Name + `" RESET ALL`)
		for _, table := range []string{"public.seen", "polar.customer_meter_history", "polar.customer_meters", "polar.customers", "polar.meters", "polar.sync_runs"} {
			w.exec(`DELETE FROM ` + table)
		}
		return &w
	}
	for _, tt := range []struct {
		where string
		first bool // of two values of one setting
		set   func(w *env, values map[string]string) (address string)
	}{
		{"database", true, func(w *env, values map[string]string) string {
			for name, value := range values {
				w.exec(`ALTER DATABASE "` + w.db.Name + `" SET ` + name + ` = ` + quoted(value))
			}
			return with(w)
		}},
		{"role", false, func(w *env, values map[string]string) string {
			for name, value := range values {
				w.exec(`ALTER ROLE CURRENT_USER IN DATABASE "` + w.db.Name + `" SET ` + name + ` = ` + quoted(value))
			}
			return with(w)
		}},
		{"parameters of the URL", true, func(w *env, values map[string]string) string {
			var parameters []string
			for name, value := range values {
				parameters = append(parameters, name, value)
			}
			return with(w, parameters...)
		}},
		{"options in the URL", false, func(w *env, values map[string]string) string {
			return with(w, "options", options(values))
		}},
	} {
		t.Run(tt.where, func(t *testing.T) {
			w := emptied(t)
			values, want := w.allInherited(tt.first)
			w.exactUnder(tt.set(w, values), want)
		})
	}
	for _, parameters := range driver {
		t.Run(strings.Join(parameters, " "), func(t *testing.T) {
			w := emptied(t)
			w.exactUnder(with(w, parameters...), map[string]string{"TimeZone": "UTC"})
		})
	}
}

// TestMirrorIsExactWhateverTheEnvironmentSets is the same with PGOPTIONS and
// PGTZ, which connections to the user's database honor.
func TestMirrorIsExactWhateverTheEnvironmentSets(t *testing.T) {
	large(t)
	w := settingsEnv(t)
	values, want := w.allInherited(false)
	t.Setenv("PGTZ", "Asia/Kathmandu")
	t.Setenv("PGAPPNAME", "from the environment")
	t.Setenv("PGOPTIONS", options(values))
	want["application_name"] = "from the environment"
	w.exactUnder(with(w), want)
}

// allInherited are values of all settings that the server knows, the first or the
// last of each in the list, and what is wanted in their place.
func (w *env) allInherited(first bool) (values, want map[string]string) {
	values, want = map[string]string{}, map[string]string{}
	for _, s := range inherited {
		if _, has := values[s.name]; w.knows(s.name) && !(has && first) {
			values[s.name], want[s.name] = s.value, s.want
		}
	}
	return values, want
}

func options(values map[string]string) string {
	var all []string
	for name, value := range values {
		all = append(all, option(name, value))
	}
	return strings.Join(all, " ")
}

func settingsEnv(t *testing.T) *env {
	t.Helper()
	w := small(t, 250)
	w.exec(`CREATE TABLE public.seen (settings jsonb)`)
	w.exec(`CREATE FUNCTION public.see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		INSERT INTO public.seen SELECT pg_catalog.jsonb_object_agg(name, pg_catalog.current_setting(name)) FROM pg_catalog.pg_settings; RETURN NEW; END $$`)
	w.exec(`CREATE TRIGGER see BEFORE INSERT ON polar.sync_runs FOR EACH ROW EXECUTE FUNCTION public.see()`)
	return w
}

func (w *env) knows(setting string) bool {
	return w.value(`SELECT (current_setting($1, true) IS NOT NULL)::text`, setting) == "true"
}

// exactUnder runs a full run through address, in which settings must be as wanted.
func (w *env) exactUnder(address string, want map[string]string) {
	w.Helper()
	st, err := store.Open(w.Context(), store.Options{URL: secret.New(address), MaxConnections: 7})
	if err != nil {
		w.Fatal(err)
	}
	defer st.Close()
	w.backfill(func(o *Options) { o.Store = st })
	w.same()
	for name, value := range want {
		if got := w.value(`SELECT string_agg(DISTINCT settings->>$1, '|') FROM public.seen`, name); got != value {
			w.Errorf("%s is %s in the connection that writes, want %s", name, got, value)
		}
	}
	if err := st.Rehearse(w.Context()); err != nil {
		w.Error(err)
	}
}

// with returns the database's address as a user writes it, without the parameters
// that the embedded database's names, and with those given as name and value.
func with(w *env, parameters ...string) string {
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
