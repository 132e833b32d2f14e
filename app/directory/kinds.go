package directory

// Every entry starts with these.
func entryFields() []Field {
	return []Field{
		{Name: FieldDN, ReadOnly: true, Description: "The distinguished name.",
			Example: "cn=alice,ou=people,dc=example,dc=org"},
		{Name: FieldID, ReadOnly: true, Description: "The entryUUID: stays when the entry is renamed, and is never given again.",
			Example: "b5d5a3a0-3c1d-103f-8a57-6d1d4c0f8f9e"},
		{Name: "createdAt", Type: Timestamp, ReadOnly: true, Description: "When the entry was created.",
			Example: "2026-01-31T12:00:00Z"},
		{Name: "updatedAt", Type: Timestamp, ReadOnly: true, Volatile: true, Description: "When the entry last changed.",
			Example: "2026-01-31T12:00:00Z"},
	}
}

func description() Field {
	return Field{Name: "description", Syntax: multilineSyntax, Description: "Anything worth saying about it."}
}

func memberOfs(writable bool) Field {
	return Field{Name: FieldMemberOfs, Type: Reference, List: true, Backlink: true, ReadOnly: !writable, Kept: true,
		Description: "The groups that have this entry as a direct member.", Example: "cn=devs,ou=groups,dc=example,dc=org"}
}

func sshPublicKeys() Field {
	return Field{Name: FieldSSHPublicKeys, List: true, Syntax: sshPublicKeySyntax, MaxLength: maxSSHKeyLength,
		Description: "SSH public keys, each a line as in authorized_keys.",
		Example:     "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGIFpYEBGdyvfSHDOQq9Tn/ruwqJj0sodBqSyEpnSe3b alice@laptop"}
}

// Users is the table of people: inetOrgPerson.
func Users() Kind {
	return Kind{Name: KindUsers, Singular: "user", Key: "cn", Fields: append(entryFields(),
		Field{Name: "cn", Naming: true, Required: true, MaxLength: maxNameLength, Description: "The common name.", Example: "alice"},
		Field{Name: "uid", Naming: true, Unique: true, DefaultsTo: "cn", Description: "The login name; the cn when left out.", Example: "alice"},
		Field{Name: "sn", Naming: true, Required: true, Description: "The surname.", Example: "Parker"},
		Field{Name: "givenName", Naming: true, Description: "The given name.", Example: "Alice"},
		Field{Name: "displayName", Naming: true, Description: "The name to show.", Example: "Alice Parker"},
		Field{Name: "mail", Naming: true, Unique: true, Syntax: mailSyntax, MaxLength: 254, Description: "The mail address.", Example: "alice@example.org"},
		Field{Name: "telephoneNumber", Syntax: telephoneSyntax, MaxLength: 64, Description: "The telephone number.", Example: "+49 30 1234567"},
		Field{Name: "mobile", Syntax: telephoneSyntax, MaxLength: 64, Description: "The mobile telephone number.", Example: "+49 170 1234567"},
		Field{Name: "title", Description: "The job title.", Example: "Engineer"},
		Field{Name: "employeeNumber", Description: "The number that the employer knows the person by.", Example: "1001"},
		Field{Name: "departmentNumber", Description: "The department.", Example: "42"},
		description(),
		Field{Name: "preferredLanguage", Syntax: asciiSyntax, Description: "The preferred language, as in RFC 9110 §12.5.4.", Example: "en"},
		Field{Name: FieldUserPassword, WriteOnly: true, Syntax: passwordSyntax, MaxLength: 256,
			Description: "The password. Never shown.", Example: "correct horse battery staple"},
		Field{Name: FieldAccountLocked, Type: Boolean, Kept: true,
			Description: "Whether the account is locked: by an admin, by failed logins for a while, or by its end date.", Example: False},
		sshPublicKeys(),
		memberOfs(true),
	)}
}

// Groups is the table of groups: groupOfNames.
func Groups() Kind {
	return Kind{Name: KindGroups, Singular: "group", Key: "cn", Fields: append(entryFields(),
		Field{Name: "cn", Naming: true, Required: true, MaxLength: maxNameLength, Description: "The name.", Example: "devs"},
		description(),
		Field{Name: FieldMembers, Type: Reference, List: true,
			Description: "The direct members: users, groups and hosts. May be empty.", Example: "cn=alice,ou=people,dc=example,dc=org"},
		memberOfs(false),
	)}
}

// Hosts is the table of machines: device.
func Hosts() Kind {
	return Kind{Name: KindHosts, Singular: "host", Key: "cn", Fields: append(entryFields(),
		Field{Name: "cn", Naming: true, Required: true, Syntax: hostNameSyntax, MaxLength: 253, Description: "The host name.", Example: "web1.example.org"},
		description(),
		Field{Name: "owners", Type: Reference, List: true, Description: "Who the host belongs to.",
			Example: "cn=alice,ou=people,dc=example,dc=org"},
		Field{Name: "ipAddresses", List: true, Syntax: ipAddressSyntax, Description: "IPv4 and IPv6 addresses.", Example: "192.0.2.17"},
		Field{Name: "serialNumber", Syntax: printableSyntax, Description: "The serial number.", Example: "SN-0042"},
		Field{Name: "location", Description: "Where the host stands.", Example: "Rack 4"},
		sshPublicKeys(),
		memberOfs(true),
	)}
}
