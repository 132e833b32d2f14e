// Runs the collection once against the server at ROLLCALL_URL, logged in as ROLLCALL_LOGIN with ROLLCALL_PASSWORD.
// Prints how many requests and assertions there were and, of what failed, the request and the answer.
"use strict";

const path = require("node:path");
const newman = require("../../tools/node_modules/newman");

const shownFailures = 20;
const secrets = /("(?:access_token|refresh_token|token|newPassword)": ?)"[^"]*"/g;

const { ROLLCALL_URL: baseUrl, ROLLCALL_LOGIN: username, ROLLCALL_PASSWORD: password } = process.env;

newman.run({
	collection: path.join(__dirname, "rollcall.postman_collection.json"),
	envVar: Object.entries({ baseUrl, username, password }).map(([key, value]) => ({ key, value })),
	timeoutRequest: 30000,
	timeoutScript: 10000,
}, (error, summary) => {
	if (error) {
		throw error;
	}
	const { stats, failures } = summary.run;
	console.log(`${stats.requests.total} requests, ${stats.assertions.total} assertions, ${failures.length} failed`);
	process.exitCode = failures.length === 0 ? 0 : 1;
	const byRequest = byRef(failures);
	[...byRequest].slice(0, shownFailures).forEach(([key, some]) => {
		const execution = summary.run.executions.find(e => e.cursor.ref === key);
		console.log(`\n${some[0].parent.name} / ${some[0].source.name}`);
		if (execution?.request) {
			console.log(`  ${execution.request.method} ${execution.request.url}`);
		}
		if (execution?.response) {
			const { code, status, headers } = execution.response;
			console.log(`  ${code} ${status}`);
			headers.each(h => console.log(`  ${h.key}: ${h.value}`));
			console.log(`  ${execution.response.text().slice(0, 1000).replace(secrets, '$1"***"')}`);
		}
		some.forEach(({ error }) => console.log(`  FAILED ${error.test ?? error.name}: ${error.message}`));
	});
	if (byRequest.size > shownFailures) {
		console.log(`\nand ${byRequest.size - shownFailures} more requests`);
	}
});

// byRef returns the failures of each request of the run.
function byRef(failures) {
	const groups = new Map();
	failures.forEach(failure => {
		const { ref } = failure.cursor;
		groups.set(ref, [...(groups.get(ref) ?? []), failure]);
	});
	return groups;
}
