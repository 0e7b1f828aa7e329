// One datanode with all that is known of it.

import { Chart, el, reshape, shape, text } from './kit.js';
import { getJson } from './past.js';

/** A datanode that is not in the frames, because there are so many, is asked for so often. */
const ASK_EVERY_MS = 2000;
/** What is measured of a datanode: the values of a frame, and their format. */
const FIGURES = {
	rate: [['confirmed'], 'rate'],
	confirm: [['p50_us', 'p99_us'], 'micros'],
	sync: [['sync_p50_us', 'sync_p99_us'], 'micros'],
	trip: [['rtt_us'], 'micros'],
	records: [['records'], 'int'],
	free: [['free'], 'bytes'],
};

/** The present value of a figure in words. Two values share their unit if they can: 0,3 · 0,9 ms. */
export function valueOf(figure, node, formats) {
	const [names, format] = FIGURES[figure];
	const [first, second] = names.map((name) => formats[format](node[name]));
	if (second === undefined || second === first) return first;
	const [number, unit] = first.split(' ');
	return `${second.endsWith(` ${unit}`) ? number : first} · ${second}`;
}

export function chartOf(figure, title, { say, formats }) {
	const [names, format] = FIGURES[figure];
	return new Chart(say(title), names.length > 1 ? ['p50', 'p99'] : [], formats[format], say);
}

export class NodePanel {
	constructor(shell) {
		const { say } = shell;
		this.shell = shell;
		this.asked = { name: null, at: -Infinity, node: undefined };
		this.title = el('h2', {}, shape('wait'), el('span'), el('small'));
		const back = el('button', { type: 'button', onclick: () => shell.deselect() }, say('node.back'));
		this.facts = ['address', 'answered', 'share', 'lost'].map((name) => [name, el('dd')]);
		const list = el('dl', {}, ...this.facts.map(([name, value]) => el('div', {}, el('dt', {}, say(`column.${name}`)), value)));
		this.charts = Object.keys(FIGURES).map((figure) => [figure, chartOf(figure, `column.${figure}`, shell)]);
		this.known = el('div', { class: 'known' }, list, el('div', { class: 'charts' }, ...this.charts.map(([, chart]) => chart.element)));
		this.element = el('section', { class: 'card panel', 'aria-label': say('card.nodes') }, el('div', { class: 'panel-head' }, this.title, back), this.known);
	}

	/** Shows the datanode `name`: `item` is what the view knows of it, if the frame has it. */
	show(name, item) {
		const { say } = this.shell;
		const node = item?.node ?? this.ask(name);
		const [picture, label, state] = this.title.children;
		text(label, name);
		reshape(picture, item?.level ?? 'wait');
		this.known.hidden = !node;
		if (node) {
			text(state, item?.words ?? say(`state.${node.state}`));
			this.fill(node, item);
		} else {
			text(state, say(node === null ? 'node.unknown' : 'node.loading'));
		}
	}

	/** Returns the datanode as the server last told it, `null` if there is none, `undefined` if it is not known yet. */
	ask(name) {
		if (this.asked.name !== name) this.asked = { name, at: -Infinity, node: undefined };
		if (performance.now() - this.asked.at > ASK_EVERY_MS) {
			this.asked.at = performance.now();
			this.fetch(this.asked);
		}
		return this.asked.node;
	}

	async fetch(asked) {
		const got = await getJson(`/api/node?name=${encodeURIComponent(asked.name)}`);
		asked.node = got === undefined ? asked.node : got && got.node;
		if (asked === this.asked) this.shell.show(null);
	}

	fill(node, item) {
		const { say, formats, history } = this.shell;
		const ago = formats.ago(Math.round(node.age_ms / 1000));
		const facts = {
			address: node.address ?? '–',
			answered: node.round > 0 ? say('node.answer', { ...node, ago }) : say('node.never'),
			share: `${formats.int(node.confirmed)} · ${formats.percent(item?.share)}`,
			lost: formats.int(node.lost),
		};
		for (const [name, value] of this.facts) text(value, facts[name]);
		for (const [figure, chart] of this.charts) {
			const series = FIGURES[figure][0].map((name) => history.series(name, node.name));
			if (figure === 'rate') chart.show([history.perSecond('confirmed', node.name)], item?.rateText ?? '–');
			else chart.show(series, valueOf(figure, node, formats));
		}
	}
}
