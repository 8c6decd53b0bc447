//! The heat map as a page: the drawing, what the pointer is on, and a table of the groups. One file with its
//! own script and style, nothing is fetched.
//!
//! The script finds the square under the pointer by its place and shows the lines that were written for it.
//! Invariant: text gets into the page escaped, and into the script as JSON without `<`.

use core::fmt::Write;
use std::collections::BTreeMap;

use serde_json::json;

use super::Shown;
use super::heat::{details, drawing, marks};
use crate::base::limits;
use crate::kube::policy::reach::port_text;
use crate::report::topo::text::escape;

/// Pods listed of a group.
const PODS: usize = 50;

const STYLE: &str = "\
body{margin:0;font:13px/1.45 system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif;\
background:#eef2f7;color:#1b2430}\
main{padding:20px}figure{margin:0;overflow:auto}figure svg{display:block;cursor:crosshair}\
#tip{position:fixed;display:none;max-width:560px;padding:9px 12px;border-radius:8px;pointer-events:none;\
background:#1b2430;color:#f3f6fb;box-shadow:0 4px 18px #0005;white-space:pre-line;z-index:2;overflow-wrap:anywhere}\
#tip b{display:block;margin-bottom:3px}\
table{border-collapse:collapse;margin-top:20px;background:#fcfdff;border-radius:8px}\
td,th{text-align:left;vertical-align:top;padding:5px 14px;border-bottom:1px solid #e4eaf2;white-space:nowrap}\
td:last-child{white-space:normal;overflow-wrap:anywhere}td.n{text-align:right;color:#5a687a}\
@media (prefers-color-scheme:dark){body{background:#080b10;color:#e8edf4}\
#tip{background:#e8edf4;color:#0f141b}table{background:#0f141b}td,th{border-color:#232d3b}td.n{color:#9aa8ba}}";

/// Finds rows and columns by bisection, so that a page of hundreds of classes stays quick.
const SCRIPT: &str = "\
const d=JSON.parse(document.getElementById('data').textContent),\
s=document.querySelector('figure svg'),t=document.getElementById('tip'),ns='http://www.w3.org/2000/svg',\
bar=()=>{const r=document.createElementNS(ns,'rect');r.setAttribute('class','hit cross');s.append(r);return r},\
across=bar(),down=bar();\
const at=(a,p)=>{let l=0,h=a.length;while(l<h){const m=(l+h)>>1;a[m]<=p?l=m+1:h=m}\
return l&&p<a[l-1]+d.side?l-1:-1};\
const set=(r,x,y,w,h)=>{r.setAttribute('x',x);r.setAttribute('y',y);r.setAttribute('width',w);r.setAttribute('height',h)};\
const off=()=>{t.style.display='none';set(across,0,0,0,0);set(down,0,0,0,0)};\
s.addEventListener('pointerleave',off);\
s.addEventListener('pointermove',e=>{const b=s.getBoundingClientRect(),\
x=(e.clientX-b.left)*d.size[0]/b.width,y=(e.clientY-b.top)*d.size[1]/b.height,c=at(d.x,x),r=at(d.y,y);\
if(c<0||r<0){off();return}\
set(across,d.x[0],d.y[r],d.x[d.x.length-1]+d.side-d.x[0],d.side);\
set(down,d.x[c],d.y[0],d.side,d.y[d.y.length-1]+d.side-d.y[0]);\
t.textContent='';const h=document.createElement('b');h.textContent=d.rows[r]+' \\u2192 '+d.columns[c];\
t.append(h,d.cells.length?d.texts[d.cells[r][c]]:'');t.style.display='block';\
const w=t.offsetWidth,g=t.offsetHeight;\
t.style.left=Math.max(4,e.clientX+18+w>innerWidth?e.clientX-w-18:e.clientX+18)+'px';\
t.style.top=Math.max(4,e.clientY+14+g>innerHeight?e.clientY-g-14:e.clientY+14)+'px'});";

/// The page.
pub fn html(shown: &Shown<'_>) -> String {
    let marks = marks(shown);
    // Titles of squares would show a second tip.
    let (svg, plan) = drawing(shown, &marks, false);
    let names = |groups: &[usize]| -> Vec<String> {
        let name = |at: &usize| {
            let group = shown.reach.groups.get(*at)?;
            Some(format!("{} ({})", group.name, shown.ends(*at)))
        };
        groups.iter().filter_map(name).collect()
    };
    let (texts, cells) = match shown.reach.cells() <= limits::REACH_TIPS_MAX {
        true => tips(shown),
        false => (Vec::new(), Vec::new()),
    };
    let data = json!({
        "side": plan.side, "x": plan.xs, "y": plan.ys, "size": [plan.size.0, plan.size.1],
        "rows": names(&shown.reach.rows), "columns": names(&shown.reach.columns),
        "texts": texts, "cells": cells,
    });
    // Nothing in a string can end the script's element.
    let data = data.to_string().replace('<', "\\u003c");
    let title = escape(&shown.title);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>podpath reach: {title}</title>\n\
         <style>{STYLE}</style></head>\n<body><main>\n<figure>{svg}</figure>\n<div id=\"tip\"></div>\n{}</main>\n\
         <script type=\"application/json\" id=\"data\">{data}</script>\n<script>{SCRIPT}</script>\n</body></html>\n",
        groups(shown)
    )
}

/// Every different text once, and each square's.
fn tips(shown: &Shown<'_>) -> (Vec<String>, Vec<Vec<usize>>) {
    let mut known: BTreeMap<String, usize> = BTreeMap::new();
    let mut texts: Vec<String> = Vec::new();
    let mut cells = Vec::new();
    for from in &shown.reach.rows {
        let mut row = Vec::new();
        for to in &shown.reach.columns {
            let mut text = details(shown, *from, *to).join("\n");
            if text.is_empty() {
                text = "no policy is asked".into();
            }
            let next = texts.len();
            let at = *known.entry(text.clone()).or_insert(next);
            if at == next {
                texts.push(text);
            }
            row.push(at);
        }
        cells.push(row);
    }
    (texts, cells)
}

fn groups(shown: &Shown<'_>) -> String {
    let mut out = String::from(
        "<table><thead><tr><th></th><th>group</th><th>ends</th><th>ports asked</th><th>what</th></tr></thead><tbody>\n",
    );
    for (at, g) in shown.reach.groups.iter().enumerate() {
        let ports: Vec<String> = g.ports.iter().map(port_text).collect();
        let mut what: Vec<String> = g.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let pods = g.pods.iter().map(|m| m.name.name.clone());
        let hosts = g.host_pods.iter().map(|p| format!("{p} (hostNetwork)"));
        let all = pods
            .chain(g.nodes.iter().cloned())
            .chain(g.ranges.iter().cloned());
        let all: Vec<String> = all.chain(hosts).collect();
        let more = all.len().saturating_sub(PODS);
        let mut list = all
            .iter()
            .take(PODS)
            .cloned()
            .collect::<Vec<_>>()
            .join(", ");
        if more > 0 {
            let _ = write!(list, " and {more} more");
        }
        what.push(list);
        let _ = writeln!(
            out,
            "<tr><td class=\"n\">{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            at + 1,
            escape(&g.name),
            escape(&shown.ends(at)),
            escape(&ports.join(", ")),
            escape(&what.join(" · ")),
        );
    }
    out.push_str("</tbody></table>\n");
    out
}
