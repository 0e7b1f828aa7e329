// What a page keeps of the past.

const KEPT_SECONDS = 120;
const SAMPLES = 120;
const LOAD_EVERY_MS = 1000;

/** The frames of the last two minutes, oldest first. */
export class Recorder {
	frames = [];

	add(frame) {
		this.frames.push(frame);
		while (this.seconds(this.frames[0], frame) > KEPT_SECONDS) this.frames.shift();
	}

	get newest() {
		return this.frames.at(-1) ?? null;
	}

	/** The place of `frame`, or 0 if it is older than all that are kept. */
	place(frame) {
		return Math.max(0, this.frames.indexOf(frame));
	}

	/** The frame just before `frame` in the same run of the program, or `null`. */
	before(frame) {
		const earlier = this.frames[this.frames.indexOf(frame) - 1];
		return earlier?.run === frame.run ? earlier : null;
	}

	seconds(from, to) {
		return (Date.parse(to.time) - Date.parse(from.time)) / 1000;
	}

	/** The newest frame of the same run that is at least `seconds` older, or else the oldest one of that run. */
	earlier(frame, seconds) {
		const before = this.frames.slice(0, this.place(frame)).filter(({ run }) => run === frame.run);
		return before.findLast((kept) => this.seconds(kept, frame) >= seconds) ?? before[0];
	}
}

/** A list to which the program adds, numbered from 1 in each run. What frames do not tell is fetched. */
export class Log {
	/** `name` is the list's name in frames and in `/api/NAME`; `keep` is how many entries the server keeps. */
	constructor(name, keep, onChange) {
		// All entries up to the number `complete` are here, as far as the server has them.
		Object.assign(this, { name, keep, onChange, runs: [], entries: [], complete: 0, isFetching: false });
	}

	take({ run, time, [this.name]: { last, new: fresh } }) {
		if (run !== this.runs.at(-1)) {
			this.runs.push(run);
			this.complete = 0;
			if (this.runs.length > 1) this.insert([{ n: 0, time, restart: true }]);
		}
		if (last <= this.complete) return;
		this.insert(fresh);
		const missing = (fresh[0]?.n ?? last + 1) - this.complete - 1;
		// What the server does not have any more stays a gap.
		if (missing > 0 && (this.complete === 0 || missing <= this.keep)) this.fetch(run);
		else this.complete = last;
	}

	async fetch(run) {
		if (this.isFetching) return;
		this.isFetching = true;
		const got = await getJson(`/api/${this.name}?since=${this.complete}`);
		this.isFetching = false;
		if (got?.run !== run || run !== this.runs.at(-1)) return;
		this.insert(got[this.name]);
		this.complete = Math.max(this.complete, got[this.name].at(-1)?.n ?? 0);
		this.onChange();
	}

	insert(fresh) {
		const run = this.runs.length - 1;
		const known = new Map(this.entries.map((entry) => [entry.key, entry]));
		for (const entry of fresh) {
			const key = `${run}:${entry.n}`;
			if (!known.has(key)) known.set(key, { ...entry, run, key });
		}
		this.entries = [...known.values()].sort((one, other) => one.run - other.run || one.n - other.n).slice(-this.keep);
	}

	/** What there was at the time of `frame`, newest first. What two runs tell, by its id, is there once. */
	at({ run: name, [this.name]: { last } }) {
		const now = this.runs.lastIndexOf(name);
		const there = this.entries.filter(({ run, n }) => run < now || (run === now && n <= last)).reverse();
		const seen = new Set();
		return there.filter(({ id, key }) => !seen.has(id ?? key) && seen.add(id ?? key));
	}
}

/** The samples of the charts. They are fetched once, and then continued from the frames. */
export class History {
	constructor(sample) {
		// A map: a node may have the name of something that objects have.
		Object.assign(this, { sample, data: null, nodes: new Map(), base: null, loaded: -Infinity });
	}

	take(frame) {
		const { data, base } = this;
		const late = data?.run === frame.run ? (Date.parse(frame.time) - Date.parse(data.time)) / 1000 - data.step_s : NaN;
		if (late < 0) return;
		if (base?.run === frame.run && late < data.step_s) this.append(frame);
		else this.load(frame);
	}

	/** Fetches all samples. If the newest one was taken just now, the next one is what happens from `frame` on. */
	async load(frame) {
		if (performance.now() - this.loaded < LOAD_EVERY_MS) return;
		this.loaded = performance.now();
		const { data } = this;
		const got = await getJson('/api/history');
		if (!got) return;
		this.data = got;
		this.nodes = new Map(Object.entries(got.nodes));
		this.base = data?.run === got.run && data.time !== got.time ? frame : null;
	}

	append(frame) {
		const { data } = this;
		const { series, nodes } = this.sample(frame, this.base);
		extend(data.series, series);
		for (const name of nodes.keys()) this.nodes.set(name, this.nodes.get(name) ?? {});
		for (const [name, kept] of this.nodes) extend(kept, nodes.get(name) ?? {});
		data.time = new Date(Date.parse(data.time) + data.step_s * 1000).toISOString();
		this.base = frame;
	}

	/** The samples of `name`, of the whole system or of one node, oldest first. */
	series(name, node) {
		return (node === undefined ? this.data?.series : this.nodes.get(node))?.[name] ?? [];
	}

	/** Counts of each step as counts per second. */
	perSecond(name, node) {
		return this.series(name, node).map((count) => (count === null ? null : count / this.data.step_s));
	}
}

/** Adds one value to each series. All stay equally long, so what is not known is `null`. */
function extend(series, values) {
	for (const name of Object.keys({ ...series, ...values })) {
		const value = Number.isFinite(values[name]) ? values[name] : null;
		if (series[name] || value !== null) series[name] = [...(series[name] ?? []), value].slice(-SAMPLES);
	}
}

/** Returns an answer of the server, `null` if there is no such thing, `undefined` if the server is away. */
export async function getJson(path) {
	try {
		const answer = await fetch(path);
		return answer.ok ? await answer.json() : answer.status === 404 ? null : undefined;
	} catch {
		return undefined;
	}
}
