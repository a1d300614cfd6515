"""The look of the report: one block of CSS, so that the file stands alone."""

CSS = """
:root { --ink: #1c2733; --soft: #5b6875; --line: #dde3e9; --tint: #f4f7fa; --accent: #0b6ea8; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.5rem 5rem; max-width: 82rem; color: var(--ink); background: #fff;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: 0 0 .4rem; }
h2 { font-size: 1.2rem; margin: 2.8rem 0 .6rem; padding-top: .9rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
p { max-width: 52rem; margin: .4rem 0 .8rem; }
.soft, figcaption, .facts dt { color: var(--soft); }
.facts { display: flex; flex-wrap: wrap; gap: .2rem 2rem; margin: 1rem 0 0; }
.facts dt { font-size: .8rem; } .facts dd { margin: 0; font-weight: 600; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .87rem; min-width: 30rem; }
th, td { padding: .38rem .55rem; white-space: nowrap; border-bottom: 1px solid var(--line); }
thead span[title] { cursor: help; text-decoration: underline dotted; text-underline-offset: 3px; }
@media (max-width: 84rem) { table { font-size: .8rem; } th, td { padding: .38rem .3rem; } }
.text { text-align: left; } .number { text-align: right; }
thead th { white-space: normal; color: var(--soft); border-bottom-width: 2px; vertical-align: bottom; }
td:first-child { font-weight: 600; white-space: normal; overflow-wrap: anywhere; min-width: 7rem; }
tbody tr:hover { background: var(--tint); }
td b { color: var(--accent); }
.terms { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.2rem; max-width: 58rem; }
.terms dt { font-weight: 600; } .terms dd { margin: 0; }
.interval { color: var(--soft); font-size: .92em; }
.plot { display: block; width: 100%; max-width: 60rem; height: auto; }
.row { margin: 1rem 0 1.4rem; }
.row h3 { margin: 0 0 .4rem; overflow-wrap: anywhere; }
.cells { display: grid; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); gap: .8rem; }
.cells.three { grid-template-columns: repeat(auto-fit, minmax(16rem, 1fr)); max-width: 64rem; }
figure { margin: 0; } figure img { width: 100%; aspect-ratio: 5 / 4; object-fit: contain; background: #11161c;
  border-radius: 4px; display: block; }
.film figure { max-width: 26rem; } .film figure img { aspect-ratio: auto; }
figcaption { font-size: .82rem; margin-top: .25rem; overflow-wrap: anywhere; }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1.5rem; padding: 0; margin: .6rem 0; list-style: none; }
.legend span { display: inline-block; width: 2.6rem; margin-right: .45rem; padding: 7px 5px; height: 17px;
  vertical-align: -3px; background: #11161c; border-radius: 3px; }
.legend i { display: block; }
footer { margin-top: 3rem; color: var(--soft); font-size: .82rem; }
@media print { h2, .row { break-inside: avoid; } }
"""
