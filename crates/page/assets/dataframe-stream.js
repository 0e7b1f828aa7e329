// The task stream: a row for each worker, a bar for each task of the last minute.

import { attribute, card, el, keyed, scroller, svg, text } from './kit.js';
import { getJson } from './past.js';

const SECONDS = 60;
/** Bars are kept for the two minutes that one can step back, too. */
const KEPT_MS = 180_000;
/** The server keeps so many. */
const KEPT = 2048;
const OUTCOMES = ['done', 'discarded', 'failed', 'lost', 'stopped'];
const STAGES = 4;
/** The height of a row, where there are few workers and where there are many. */
const [TALL, LOW, FEW] = [44, 22, 4];
const MOST_LANES = 4;
/** The shortest bar, in pixels. */
const THIN = 1.5;

/** The bars, complete as far as the server has them. Frames tell only the newest ones. */
class Bars {
	constructor(onChange) {
		Object.assign(this, { onChange, run: null, last: 0, bars: [], isFetching: false });
	}

	take({ run, lead_ms: now, tasks: { last, new: fresh } }) {
		if (run !== this.run) Object.assign(this, { run, last: 0, bars: [] });
		if (last <= this.last) return;
		const first = last - fresh.length + 1;
		this.insert(fresh, last);
		if (first > this.last + 1) this.fetch(run);
		else this.last = last;
		this.bars = this.bars.filter(({ end }) => end > now - KEPT_MS).slice(-4 * KEPT);
	}

	async fetch(run) {
		if (this.isFetching) return;
		this.isFetching = true;
		const got = await getJson(`/api/tasks?since=${this.last}`);
		this.isFetching = false;
		if (got?.run !== run || run !== this.run) return;
		this.insert(got.tasks, got.last);
		this.last = Math.max(this.last, got.last);
		this.onChange();
	}

	insert(fresh, last) {
		const known = new Map(this.bars.map((bar) => [bar.n, bar]));
		fresh.forEach(([w, j, stage, start, length, outcome], index) => {
			const n = last - fresh.length + 1 + index;
			known.set(n, { n, w, j, stage, start, end: start + length, outcome: OUTCOMES[outcome] });
		});
		this.bars = [...known.values()].sort((one, other) => one.n - other.n);
	}

	/** What there was at the time of `frame`: also the tasks that still ran. */
	at({ run, lead_ms: now, tasks: { last, open } }) {
		if (run !== this.run) return [];
		const ended = this.bars.filter(({ n, end }) => n <= last && end > now - SECONDS * 1000);
		return [...ended, ...open.map(([w, j, stage, start]) => ({ w, j, stage, start, end: now, outcome: 'open' }))];
	}
}

export class TaskStream {
	constructor(shell, linkTo) {
		const { say } = shell;
		Object.assign(this, { shell, linkTo, selected: null, shown: [] });
		this.bars = new Bars(() => shell.show(null));
		shell.logs.push(this.bars);
		this.rows = scroller('ul', say('card.stream'));
		for (const [name, action] of Object.entries({ keydown: (event) => this.key(event), mousemove: (event) => this.point(event), mouseleave: () => this.select(null), blur: () => this.select(null) })) this.rows.addEventListener(name, action);
		this.told = el('p', { class: 'told', 'aria-live': 'polite' });
		const axis = el('div', { class: 'axis', 'aria-hidden': 'true' }, ...[60, 45, 30, 15, 0].map((seconds) => el('small', {}, seconds > 0 ? `−${seconds} s` : say('now'))));
		const key = (name, said) => el('span', { class: 'legend' }, svg('svg', { width: 16, height: 10, 'aria-hidden': 'true' }, svg('rect', { width: 16, height: 10, fill: `url(#${name})` })), said);
		const legend = el('div', { class: 'legends' }, ...[1, 2, 3, 4].map((stage) => key(`stage${stage % STAGES}`, say('legend.stage', { stage }))), ...['lost', 'stopped'].map((name) => key(name, say(`legend.${name}`))));
		this.element = card(say('card.stream'), 'stream-card', patterns(), this.rows, axis, this.told, legend);
		new ResizeObserver(() => this.draw()).observe(this.rows);
	}

	show(frame, workers) {
		this.frame = frame;
		this.workers = workers;
		this.shown = this.bars.at(frame);
		this.draw();
	}

	draw() {
		if (!this.frame) return;
		const { shown } = this;
		const rows = this.workers.map((worker) => ({ ...worker, bars: shown.filter(({ w }) => w === worker.w) }));
		const make = ({ key }) => {
			const picture = svg('svg', { role: 'img' }, svg('rect', { class: 'unseen', height: '100%' }), svg('g'), svg('rect', { class: 'chosen' }));
			return el('li', { 'data-worker': key }, el('a', { href: this.linkTo(key) }, key), picture);
		};
		keyed(this.rows, rows, make, (row, worker) => this.fill(row, worker));
		this.tell();
	}

	fill(row, { level, bars, isSelected }) {
		const { say } = this.shell;
		const { lead_ms: now, tasks: { since_ms: since } } = this.frame;
		const picture = row.lastElementChild;
		const width = picture.clientWidth;
		const x = (ms) => Math.max(0, width * (1 - (now - ms) / (SECONDS * 1000)));
		attribute(row, 'data-level', level);
		attribute(row, 'data-selected', isSelected);
		attribute(picture, 'aria-label', say('bars', { count: bars.length }));
		// Before this, nobody looked, and bars were not kept.
		attribute(picture.firstElementChild, 'width', x(Math.max(0, since ?? now)).toFixed(1));
		const lanes = lay(bars);
		const whole = this.workers.length > FEW ? LOW : TALL;
		const height = whole / lanes;
		attribute(picture, 'height', whole);
		const paths = new Map();
		let chosen = null;
		for (const bar of bars) {
			const left = x(bar.start);
			const box = [left, bar.lane * height + 1, Math.max(THIN, x(bar.end) - left), height - 2].map((value) => value.toFixed(1));
			if (this.isChosen(bar)) chosen = box;
			const name = classOf(bar);
			paths.set(name, `${paths.get(name) ?? ''}M${box[0]} ${box[1]}h${box[2]}v${box[3]}h-${box[2]}z`);
		}
		const items = [...paths].map(([key, path]) => ({ key, path }));
		keyed(picture.children[1], items, ({ key }) => svg('path', { class: key.endsWith(' open') && 'open', fill: `url(#${key.split(' ')[0]})` }), (path, item) => attribute(path, 'd', item.path));
		['x', 'y', 'width', 'height'].forEach((name, index) => attribute(picture.lastElementChild, name, chosen?.[index] ?? 0));
	}

	isChosen = (bar) => this.selected !== null && ['w', 'j', 'stage', 'start'].every((name) => bar[name] === this.selected[name]);

	select(bar) {
		if (this.selected === bar) return;
		this.selected = bar;
		this.draw();
	}

	/** Chooses the bar under the pointer. */
	point(event) {
		const row = event.target.closest('li');
		const picture = row?.lastElementChild;
		if (!picture || !this.frame) return;
		const box = picture.getBoundingClientRect();
		const at = this.frame.lead_ms - SECONDS * 1000 * (1 - (event.clientX - box.left) / box.width);
		const slack = (3 * SECONDS * 1000) / box.width;
		const { w } = this.workers.find(({ key }) => key === row.dataset.worker) ?? {};
		const near = this.shown.filter((bar) => bar.w === w && bar.start - slack <= at && at <= bar.end + slack);
		const lanes = 1 + Math.max(0, ...near.map(({ lane }) => lane));
		const lane = Math.floor(((event.clientY - box.top) / box.height) * lanes);
		this.select(near.find((bar) => bar.lane === lane) ?? near.at(-1) ?? null);
	}

	/** Left and right choose the task before and after at the same worker, up and down another worker. */
	key(event) {
		const order = this.workers.map(({ w }) => w);
		const of = (w) => this.shown.filter((bar) => bar.w === w).sort((one, other) => one.start - other.start);
		const now = this.selected ?? { w: order.find((w) => of(w).length > 0), start: Infinity };
		const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -1, ArrowDown: 1 }[event.key];
		if (step === undefined) return;
		event.preventDefault();
		if (event.key === 'ArrowLeft' || event.key === 'ArrowRight') {
			const bars = of(now.w);
			const place = bars.findIndex(this.isChosen);
			this.select(bars[place < 0 ? bars.length - 1 : Math.min(Math.max(place + step, 0), bars.length - 1)] ?? null);
			return;
		}
		const others = order.filter((w) => w === now.w || of(w).length > 0);
		const bars = of(others[Math.min(Math.max(others.indexOf(now.w) + step, 0), others.length - 1)]);
		this.select(bars.findLast(({ start }) => start <= now.start) ?? bars.at(0) ?? null);
	}

	/** Says in words what is chosen. */
	tell() {
		const { say, formats } = this.shell;
		const bar = this.shown.find(this.isChosen);
		if (!bar) return text(this.told, say(this.shown.length > 0 ? 'choose' : 'no-bars'));
		const worker = this.workers.find(({ w }) => w === bar.w)?.key;
		const values = { ...bar, worker, took: formats.micros((bar.end - bar.start) * 1000), ago: formats.ago(Math.round((this.frame.lead_ms - bar.end) / 1000)) };
		text(this.told, `${say('bar', values)}: ${say(`outcome.${bar.outcome}`, values)}`);
	}
}

/** The fill of a bar, and how it is drawn. */
function classOf({ stage, outcome }) {
	if (outcome === 'lost' || outcome === 'failed') return 'lost';
	if (outcome === 'stopped' || outcome === 'discarded') return 'stopped';
	return `stage${stage % STAGES}${outcome === 'open' ? ' open' : ''}`;
}

/** Gives tasks that run at the same time lanes of their own, as far as there is room. Returns the number of lanes. */
function lay(bars) {
	const ends = [];
	for (const bar of [...bars].sort((one, other) => one.start - other.start)) {
		let lane = ends.findIndex((end) => end <= bar.start);
		if (lane < 0) lane = ends.length < MOST_LANES ? ends.length : ends.indexOf(Math.min(...ends));
		ends[lane] = Math.max(ends[lane] ?? 0, bar.end);
		bar.lane = lane;
	}
	return Math.max(1, ends.length);
}

/** Each stage has a colour and a pattern, because colour alone says nothing to many people. */
function patterns() {
	const marks = { stage1: '', stage2: 'M0 6 6 0', stage3: 'M3 0V6', stage0: 'M0 3H6', lost: 'M0 0 6 6M0 6 6 0', stopped: 'M0 0 6 6' };
	const pattern = ([id, d]) => svg('pattern', { id, width: 6, height: 6, patternUnits: 'userSpaceOnUse' }, svg('rect', { width: 6, height: 6, class: id }), svg('path', { d, class: 'mark' }));
	return svg('svg', { class: 'patterns', width: 0, height: 0, 'aria-hidden': 'true' }, svg('defs', {}, ...Object.entries(marks).map(pattern)));
}
