// The store: the headnode and its datanodes.

import { attribute, card, Chart, el, keyed, moment, reshape, scroller, shape, showChecks, showTimeline, text } from './kit.js';
import { MAX_AROUND, showGrid, Star } from './star.js';
import { chartOf, NodePanel, valueOf } from './store-node.js';

export { words } from './store-words.js';

/** The name of the link to a datanode, in both languages: a link means the same to whom it is sent. */
const NODE = 'nodo';
const EVENTS_KEPT = 256;
const MESSAGES_KEPT = 64;
/** Rates are means over this time. */
const RATE_SECONDS = 3;
/** So many datanodes that get no messages are named in the verdict. */
const NAMED = 3;
/** 95 of 100 random choices fall within so many standard deviations. */
const DEVIATIONS = 1.96;
const LEVELS = { available: 'ok', draining: 'wait', connecting: 'info', suspect: 'warn', 'not-operative': 'bad' };
const EVENT_LEVELS = { joined: 'ok', back: 'ok', connected: 'ok', suspect: 'warn', 'not-operative': 'bad', 'name-refused': 'warn', 'disk-full': 'warn', 'not-held': 'bad' };
const FIGURES = ['confirm', 'sync', 'trip', 'records', 'free'];
const RULES = ['silence', 'fewer-than-replicas', 'slow', 'disk-full-soon', 'not-held'];

/** datanode2 comes before datanode10. */
const order = new Intl.Collator('es', { numeric: true });
const nodeLink = (name) => `#${NODE}=${encodeURIComponent(name)}`;
const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);
const byName = (frame) => new Map(frame?.nodes.map((node) => [node.name, node]));
const isMany = ({ nodes, more }) => nodes.length > MAX_AROUND || sum(Object.values(more ?? {})) > 0;

const stateInWords = ({ state, cause }, say) => say(`state.${state}`) + (cause ? `: ${say(`cause.${cause}`)}` : '');

export function verdict(frame, { say }) {
	const { verdict: { code }, expected, known, replicas, available, operative } = frame;
	const usable = available < operative ? say('usable', frame) : '';
	const state = say('state', { operative, usable, total: Math.max(expected, known) });
	const values = { state, replicas, wanted: Math.max(1, replicas - available), missing: missing(frame, say) };
	const said = code === 'fewer-than-expected' ? 'saving' : code;
	return { text: say(`verdict.${said}`, values), advice: say(`advice.${code}`, values).trim() };
}

function missing({ nodes, more, known, expected }, say) {
	const away = nodes.filter((node) => node.state !== 'available');
	const names = away.slice(0, NAMED).map((node) => `${node.name} (${stateInWords(node, say)})`);
	const count = away.length + sum(Object.values({ ...more, available: 0 }));
	if (count > names.length) names.push(say('missing.more', { count: count - names.length }));
	const said = count > 0 ? [say('missing', { count, names: names.join('; ') })] : [];
	if (expected > known) said.push(say('missing.unknown', { count: expected - known }));
	return said.join(' ');
}

/** What the charts are continued with: what happened from one frame to a later one. */
export function sample(frame, earlier) {
	const before = byName(earlier);
	const change = (node) => ({ ...node, confirmed: node.confirmed - (before.get(node.name)?.confirmed ?? 0) });
	const { ok, p50_us, p99_us } = frame.puts;
	return {
		series: { puts: ok - earlier.puts.ok, p50_us, p99_us, messages: frame.messages, available: frame.available },
		nodes: new Map(frame.nodes.map((node) => [node.name, change(node)])),
	};
}

export function mount(root, shell) {
	const view = new StoreView(root, shell);
	return (frame, earlier) => view.show(frame, earlier);
}

class StoreView {
	constructor(root, shell) {
		const { say } = shell;
		this.shell = shell;
		this.events = shell.log('events', EVENTS_KEPT);
		this.recent = shell.log('recent', MESSAGES_KEPT);
		this.star = new Star(say('title'));
		this.grid = el('ul', { class: 'grid' });
		this.rest = el('p');
		this.starCard = card(say('card.star'), 'star-card', this.star.element);
		this.gridCard = card(say('card.grid'), 'star-card', scroller('div', say('card.grid'), this.grid, this.rest));
		this.table = new NodeTable(shell);
		this.charts = new StoreCharts(shell);
		this.panel = new NodePanel(shell);
		this.overview = el('div', { class: 'overview' }, this.table.element, this.charts.element);
		const lists = [['events', 'ol'], ['recent', 'ol'], ['checks', 'ul']].map(([name, tag]) => {
			const title = say(`card.${name}`);
			return card(title, `${name}-card`, scroller(tag, title));
		});
		[this.timeline, this.messages, this.checks] = lists.map((list) => list.lastElementChild);
		root.replaceChildren(this.starCard, this.gridCard, this.overview, this.panel.element, el('div', { class: 'lists' }, ...lists));
	}

	show(frame, earlier) {
		const { shell } = this;
		const nodes = this.nodesOf(frame, earlier);
		const selected = shell.selected?.key === NODE ? shell.selected.value : null;
		this.showAround(frame, earlier, nodes);
		this.overview.hidden = selected !== null;
		this.panel.element.hidden = selected === null;
		if (selected === null) {
			this.table.show(nodes);
			this.charts.show(frame);
		} else {
			this.panel.show(selected, nodes.find(({ key }) => key === selected));
		}
		showTimeline(this.timeline, this.events.at(frame), shell, (entry) => this.describe(entry));
		this.showMessages(frame);
		showChecks(this.checks, this.checksOf(frame));
	}

	/** What the star and the table show of the datanodes. */
	nodesOf(frame, earlier) {
		const { say, formats, recorder, selected } = this.shell;
		const many = isMany(frame);
		const before = byName(earlier);
		const base = recorder.earlier(frame, RATE_SECONDS);
		const since = byName(base);
		// Of many, a frame has only some.
		const total = many ? frame.puts.ok * frame.replicas : sum(frame.nodes.map((node) => node.confirmed));
		const sharing = many ? frame.available : frame.nodes.filter((node) => node.state === 'available' || node.confirmed > 0).length;
		const fair = sharing > 0 ? 1 / sharing : 0;
		const spread = total > 0 ? DEVIATIONS * Math.sqrt((fair * (1 - fair)) / total) : 0;
		const nodes = frame.nodes.map((node) => {
			const { name, state, confirmed, round, attempt } = node;
			const rate = base ? (confirmed - (since.get(name)?.confirmed ?? 0)) / recorder.seconds(base, frame) : 0;
			return {
				node, key: name, href: nodeLink(name), isSelected: selected?.value === name,
				level: LEVELS[state] ?? 'wait', word: say(`state.${state}`), words: stateInWords(node, say),
				flow: earlier ? confirmed - (before.get(name)?.confirmed ?? 0) : 0, rate, rateText: formats.rate(rate),
				answered: round, answeredBefore: before.get(name)?.round, attempt,
				share: total > 0 ? confirmed / total : NaN, fair, low: Math.max(0, fair - spread), high: Math.min(1, fair + spread),
			};
		});
		return many ? nodes : nodes.sort((one, other) => order.compare(one.key, other.key));
	}

	showAround(frame, earlier, nodes) {
		const { say, formats, still } = this.shell;
		this.gridCard.hidden = !(this.starCard.hidden = isMany(frame));
		if (isMany(frame)) {
			const rest = Object.entries(frame.more).filter(([, count]) => count > 0);
			const counts = rest.map(([state, count]) => `${formats.int(count)} ${say(`state.${state}`)}`).join(', ');
			showGrid(this.grid, nodes);
			text(this.rest, counts && say('more', { counts }));
			return;
		}
		this.star.show(nodes, formats.rate(this.charts.rate(frame)), still);
		if (earlier === null || still) return;
		this.star.sendDots(frame.period_ms);
		this.star.sendRings(frame.round, earlier.round);
	}

	describe({ node, what, cause, count, address }) {
		const { say } = this.shell;
		let said = say(`${what in LEVELS ? 'state' : 'event'}.${what}`, { count });
		if (what === 'connected' && count > 0) said += `; ${say('reconciled', { count })}`;
		if (cause) said += `: ${say(`cause.${cause}`)}`;
		if (address && what !== 'connected') said += ` (${address})`;
		return { level: EVENT_LEVELS[what] ?? 'info', subject: el('a', { href: nodeLink(node) }, node), said };
	}

	showMessages(frame) {
		const { say, formats } = this.shell;
		const rows = [];
		for (const entry of this.recent.at(frame).filter(({ id }) => id)) {
			const newer = rows.at(-1);
			const skipped = newer?.run === entry.run ? newer.n - entry.n - 1 : 0;
			if (skipped > 0) rows.push({ key: `behind ${newer.key}`, said: say('skipped', { count: formats.int(skipped) }) });
			rows.push({ ...entry, key: entry.id });
		}
		if (rows.length === 0) rows.push({ key: 'nothing', said: say('no-messages') });
		const make = (row) => (row.id ? this.messageRow(row) : el('li', { class: 'note' }));
		keyed(this.messages, rows, make, (element, row) => row.said && text(element, row.said));
	}

	messageRow(entry) {
		const { say, formats } = this.shell;
		const { id, bytes, client, places, text: said } = entry;
		const where = places.map((place) => el('a', { href: nodeLink(place.split(':')[0]) }, place));
		return el('li', { 'data-id': id }, moment(entry, this.shell),
			el('bdi', { class: said === undefined ? 'hidden-text' : 'said', title: said }, said ?? say('hidden')),
			el('span', { class: 'places' }, ...where),
			el('small', {}, bytes === undefined ? '' : formats.bytes(bytes)),
			el('small', { class: 'from' }, el('code', {}, id), ' ', say('from', { client })));
	}

	checksOf(frame) {
		const { say, formats } = this.shell;
		const checks = RULES.flatMap((rule) => {
			const found = frame.warnings.filter((warning) => warning.rule === rule);
			if (found.length === 0) return [{ key: rule, isGood: true, said: say(`good.${rule}`) }];
			return found.map(({ node, value }) => {
				const values = { node, value: formats.few(value), time: formats.duration(value * 60) };
				return { key: `${rule} ${node}`, isGood: false, said: say(`warning.${rule}`, values) };
			});
		});
		return checks.sort((one, other) => one.isGood - other.isGood);
	}
}

/** A row for each datanode. Its elements have the roles of a table, because on a narrow page its style is not one. */
class NodeTable {
	constructor(shell) {
		const { say } = shell;
		this.shell = shell;
		this.columns = ['node', 'share', ...FIGURES].map((name) => say(`column.${name}`));
		const heads = this.columns.map((name, index) => el('span', { role: 'columnheader' }, name, index === 2 || index === 3 ? el('small', { title: say('quantiles') }, 'p50 · p99') : ''));
		this.rows = el('div', { role: 'rowgroup' });
		const head = el('div', { role: 'rowgroup' }, el('div', { class: 'row head', role: 'row' }, ...heads));
		const title = say('card.nodes');
		this.element = card(title, 'nodes-card', scroller('div', title, el('div', { role: 'table', 'aria-label': title }, head, this.rows)));
	}

	show(nodes) {
		keyed(this.rows, nodes, (item) => this.make(item), (row, item) => this.fill(row, item));
	}

	make({ key, href }) {
		const cells = this.columns.map((name) => el('span', { role: 'cell', 'data-label': name }));
		cells[0].append(shape('wait'), el('a', { href }, key), el('small'));
		cells[1].append(el('span', { class: 'share' }, el('i', { class: 'bar' }), el('i', { class: 'band' }), el('i', { class: 'fair' })), el('small'));
		return el('div', { class: 'row', role: 'row', 'data-node': key }, ...cells);
	}

	fill(row, { node, level, words, share, fair, low, high }) {
		const { say, formats } = this.shell;
		const [name, part, ...figures] = row.children;
		attribute(row, 'data-level', level);
		attribute(row, 'data-confirmed', node.confirmed);
		reshape(name.firstElementChild, level);
		text(name.lastElementChild, words);
		const bar = part.firstElementChild;
		// The bar ends at twice the fair share, so that the mark is in its middle.
		for (const [property, value] of Object.entries({ '--share': share || 0, '--low': low, '--high': high })) {
			bar.style.setProperty(property, Math.min(1, value / (2 * fair || 1)).toFixed(4));
		}
		attribute(bar, 'title', say('fair', { fair: formats.percent(fair), low: formats.percent(low), high: formats.percent(high) }));
		text(part.lastElementChild, `${formats.int(node.confirmed)} · ${formats.percent(share)}`);
		figures.forEach((cell, index) => text(cell, valueOf(FIGURES[index], node, formats)));
	}
}

class StoreCharts {
	constructor(shell) {
		const { say, formats } = shell;
		this.shell = shell;
		this.saved = new Chart(say('saved'), [], formats.rate, say);
		this.put = chartOf('confirm', 'put', shell);
		this.available = new Chart(say('available'), [], formats.int, say);
		this.registered = new Chart(say('registered'), [], formats.int, say);
		this.failed = el('small', { class: 'warn' });
		const charts = [this.saved, this.put, this.available, this.registered].map(({ element }) => element);
		this.element = card(say('card.charts'), 'charts-card', el('div', { class: 'charts' }, ...charts), this.failed);
	}

	rate(frame) {
		const { recorder } = this.shell;
		const base = recorder.earlier(frame, RATE_SECONDS);
		return base ? (frame.puts.ok - base.puts.ok) / recorder.seconds(base, frame) : undefined;
	}

	show(frame) {
		const { formats, history, say } = this.shell;
		const { puts, available, messages } = frame;
		this.saved.show([history.perSecond('puts')], formats.rate(this.rate(frame)));
		this.put.show([history.series('p50_us'), history.series('p99_us')], valueOf('confirm', puts, formats));
		this.available.show([history.series('available')], formats.int(available));
		this.registered.show([history.series('messages')], formats.int(messages));
		text(this.failed, puts.failed > 0 ? say('failed', { count: puts.failed }) : '');
	}
}
