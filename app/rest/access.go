package rest

import (
	"html/template"
	"net/http"

	"rollcall/app/directory"
)

// accessRow is one row of the table of access as clients see it.
type accessRow struct {
	Action directory.Action          `json:"action"`
	Kind   string                    `json:"kind"`
	Roles  map[directory.Role]string `json:"roles"`
}

// accessTable is the table of access, and what its words mean.
type accessTable struct {
	Roles   []directory.Role `json:"-"`
	Extents []accessExtent   `json:"extents"`
	Rules   []accessRow      `json:"rules"`
}

type accessExtent struct {
	Extent      string `json:"extent"`
	Description string `json:"description"`
}

// access answers with who may do what: the table that decides it.
func (a *api) access(w http.ResponseWriter, r *http.Request) error {
	table := accessTable{Roles: directory.Roles}
	for extent := directory.Nothing; extent <= directory.All; extent++ {
		table.Extents = append(table.Extents, accessExtent{extent.String(), extent.Describe()})
	}
	for _, rule := range directory.Rules() {
		row := accessRow{rule.Action, rule.Kind, map[directory.Role]string{}}
		for _, role := range directory.Roles {
			row.Roles[role] = rule.Extent(role).String()
		}
		table.Rules = append(table.Rules, row)
	}
	return answerPage(w, r, accessPage, table, table)
}

var accessPage = template.Must(template.Must(pageHead.Clone()).New("page").Parse(`{{template "head" "who may do what"}}
<h1>Who may do what</h1>
<p>Everybody has the role <em>self</em>. A caller with several roles may do what any of them may.
To <em>set-password</em> is to give somebody a password, to <em>change-password</em> to change one by giving the current one.</p>
<table>
<tr><th>Action<th>on{{range .Roles}}<th>{{.}}{{end}}
{{range $rule := .Rules}}<tr><td>{{.Action}}<td>{{.Kind}}{{range $.Roles}}<td>{{index $rule.Roles .}}{{end}}
{{end}}</table>
<dl>
{{range .Extents}}<dt>{{.Extent}}<dd>{{.Description}}
{{end}}</dl>
</html>
`))
