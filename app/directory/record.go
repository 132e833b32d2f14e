package directory

// Record is an entry, or one change to the directory, in the directory server's own terms: what a record of LDIF
// (RFC 2849) holds.
type Record struct {
	DN string `json:"dn"`
	// Change is what is done to the entry; "" where the record is the entry itself.
	Change ChangeType `json:"change,omitempty"`
	// Attributes are those of the entry, or of the one that is added.
	Attributes []Attribute `json:"attributes,omitempty"`
	// Modifications are in the order in which they are made.
	Modifications []Modification `json:"modifications,omitempty"`
	// NewRDN is the relative DN that the entry is renamed to.
	NewRDN string `json:"newRDN,omitempty"`
}

// ChangeType is a kind of change to an entry.
type ChangeType string

// The changes that records are of.
const (
	ChangeAdd    ChangeType = "add"
	ChangeModify ChangeType = "modify"
	ChangeRename ChangeType = "modrdn"
	ChangeDelete ChangeType = "delete"
)

// Attribute is an attribute with its values.
type Attribute struct {
	Type   string   `json:"type"`
	Values []string `json:"values,omitempty"`
	// Secret tells that there are values which are not shown.
	Secret bool `json:"secret,omitempty"`
}

// Modification is what a modify operation does to one attribute (RFC 4511 §4.6): add, delete or replace.
type Modification struct {
	Operation string `json:"operation"`
	Attribute
}
