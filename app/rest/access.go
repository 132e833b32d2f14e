package rest

import (
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
	return a.answerPage(w, r, accessPage, table, table)
}

var accessPage = pageOf("access.html")
