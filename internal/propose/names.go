package propose

import (
	"regexp"
	"slices"
	"strings"

	"github.com/walbridge/walbridge/internal/pg"
)

// bookkeeping are tables of Django and of what is commonly installed beside it:
// nothing that a dashboard reads, and sessions and tokens among them.
var bookkeeping = regexp.MustCompile(`^(django_(migrations|content_type|admin_log|session|site|q_.*|celery_.*|apscheduler_.*)|` +
	`auth_(permission|group|group_permissions|user_groups|user_user_permissions)|` +
	`.*_(user|users)_(groups|user_permissions)|` +
	`authtoken_.*|token_blacklist_.*|oauth2_provider_.*|social_auth_.*|account_email.*|socialaccount_.*|otp_.*|axes_.*|` +
	`reversion_.*|silk_.*|easy_thumbnails_.*|celery_.*|kombu_.*|channels_postgres_.*|spatial_ref_sys)$`)

// secretName fits columns that hold what opens something. Whatever is published
// can be read by the bridge's role, so the table or the column stays out.
var secretName = regexp.MustCompile(`(?i)(^|_)(password|passwd|senha|secret|token|api_?key|private_key|access_key|credentials?|otp|hash_?key|webhook_key|session_key)(_|$|[0-9])`)

// passwordName fits columns that make a whole table one of credentials.
var passwordName = regexp.MustCompile(`(?i)(^|_)(password|passwd|senha)(_|$)`)

// private says why a table stays out for what it holds, "" if it doesn't.
func private(t *pg.Table) string {
	if bookkeeping.MatchString(t.Name) {
		return "Django's own bookkeeping"
	}
	for _, c := range t.Columns {
		if passwordName.MatchString(c.Name) {
			return "it holds credentials (" + c.Name + "), and whatever is mapped is published with all of its columns"
		}
	}
	return ""
}

func secret(column string) bool { return secretName.MatchString(column) }

// stateful reports that a column's changes are probably steps in a row's life.
func stateful(c *pg.Column) bool {
	words := strings.Split(strings.ToLower(c.Name), "_")
	named := slices.ContainsFunc(words, func(w string) bool {
		return w == "status" || w == "state" || w == "stage" || w == "situacao" || w == "estado"
	})
	t := base(c)
	return named && (t.Category == "S" || t.Kind == "e")
}

// personalName fits columns that are likely to tell something about a person.
var personalName = regexp.MustCompile(`(?i)(name|nome|mail|phone|fone|cpf|cnpj|address|endereco|birth|nascimento|content|text|body|message|mensagem|attributes)`)

// personal reports that a column's values are probably somebody's.
func personal(c *pg.Column) bool {
	t := base(c)
	free := t.Category == "S" || t.Name == "json" || t.Name == "jsonb" || t.Name == "date"
	return free && personalName.MatchString(c.Name) && !strings.HasSuffix(c.Name, "_type")
}

// base is a column's type, for a domain what it rests on.
func base(c *pg.Column) *pg.Type {
	if c.Type.Base != nil {
		return c.Type.Base
	}
	return &c.Type
}

// targetName is the source's name: nothing that anyone would have to look up.
func targetName(n pg.TableName) string {
	if n.Schema == "public" {
		return n.Name
	}
	return n.Schema + "_" + n.Name
}

// entityPattern is what the first half of an action may be.
var entityPattern = regexp.MustCompile(`^[a-z_]+$`)

// entityName is the model's name: Django calls a table app_model.
func entityName(table string) string {
	name := strings.ToLower(table)
	if _, model, ok := strings.Cut(name, "_"); ok && entityPattern.MatchString(model) {
		return model
	}
	if entityPattern.MatchString(name) {
		return name
	}
	return "row"
}
