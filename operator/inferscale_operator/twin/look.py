"""How a report looks, and what is shown under the pointer; both stand in the page itself."""

from __future__ import annotations

COLORS = 7
"""Colours of policies, told apart by those who do not see all colours (after Okabe and Ito)."""

STYLE = """
:root{color-scheme:light dark;--paper:#fff;--ink:#1a1a1a;--muted:#666;--rule:#ddd;--soft:#f4f5f7;
--c0:#0072b2;--c1:#d55e00;--c2:#008f68;--c3:#b5568c;--c4:#3a9bd9;--c5:#b87900;--c6:#6b5b95}
@media (prefers-color-scheme:dark){:root{--paper:#15181c;--ink:#e8e8e8;--muted:#a0a4aa;--rule:#363b42;
--soft:#1f242a;--c0:#56b4e9;--c1:#ff8c42;--c2:#2dd4a7;--c3:#ee9ccb;--c4:#9cd5ff;--c5:#f5c04a;--c6:#b9a8ea}}
*{box-sizing:border-box}
body{font:14px/1.45 system-ui,sans-serif;color:var(--ink);background:var(--paper);
max-width:1360px;margin:20px auto;padding:0 16px}
h1{font-size:20px;margin:0 0 8px}h2{font-size:16px;margin:28px 0 6px;border-top:1px solid var(--rule);
padding-top:14px}p{margin:4px 0}nav{font-size:12px;margin:10px 0}nav a{margin-right:12px;white-space:nowrap}
a{color:var(--c0)}.note{font-size:12px;color:var(--muted)}
.scroll{overflow-x:auto;max-width:100%;margin:6px 0 10px}
table{border-collapse:collapse;font-size:12.5px;font-variant-numeric:tabular-nums}
caption{text-align:left;font-weight:600;padding:2px 0 4px;white-space:nowrap}
th,td{padding:3px 9px;text-align:left;white-space:nowrap;border-bottom:1px solid var(--rule)}
th{font-weight:600;color:var(--muted);vertical-align:bottom}.right{text-align:right}
th:first-child,td:first-child{position:sticky;left:0;background:var(--paper)}
tr.last td{border-bottom:2px solid var(--rule)}td.prose{white-space:normal;min-width:26em;max-width:60em}
.grids{display:flex;flex-wrap:wrap;gap:0 28px}.grids .scroll{margin-bottom:4px}
details{margin:6px 0}summary{cursor:pointer;font-weight:600;font-size:13px}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,520px),1fr));gap:10px 24px}
figure{margin:0;min-width:0}figcaption{font-weight:600;font-size:13px}
svg{display:block;width:100%;height:auto;touch-action:pan-y}
svg text{font:11px system-ui,sans-serif;fill:var(--muted)}
.grid{stroke:var(--rule);fill:none}.line{fill:none;stroke:currentColor;stroke-width:1.7;
stroke-linejoin:round;vector-effect:non-scaling-stroke}
.line.dashed{stroke-dasharray:7 4}.line.dotted{stroke-dasharray:2 3}
.mark{fill:currentColor;stroke:var(--paper);stroke-width:1;cursor:pointer}.mark:hover{stroke:var(--ink)}
.band rect{fill:currentColor;opacity:.22}.band text{font-size:10px;fill:var(--ink)}
.cross{stroke:var(--muted);stroke-dasharray:2 2}
.key{font-size:12px;margin:0 0 4px}.key span{margin-right:14px;white-space:nowrap;display:inline-block}
.key i{display:inline-block;width:22px;margin-right:5px;vertical-align:middle;border-top:2px currentColor}
i.solid{border-top-style:solid}i.dashed{border-top-style:dashed}i.dotted{border-top-style:dotted}
.ink{color:var(--ink)}.muted{color:var(--muted)}
.c0{color:var(--c0)}.c1{color:var(--c1)}.c2{color:var(--c2)}.c3{color:var(--c3)}.c4{color:var(--c4)}
.c5{color:var(--c5)}.c6{color:var(--c6)}
#tip{position:fixed;display:none;pointer-events:none;max-width:min(46em,90vw);background:var(--soft);
color:var(--ink);border:1px solid var(--rule);border-radius:4px;padding:5px 8px;font-size:12px;
white-space:pre-line;box-shadow:0 2px 8px #0003;z-index:2}
@media (max-width:600px){svg text{font-size:14.5px}.band text{font-size:13px}}
@media print{details>*{display:block}.plots{break-inside:avoid}}
"""

SCRIPT = """
const tip=document.getElementById("tip");
const pad=n=>String(n).padStart(2,"0");
const clock=(svg,s)=>svg.dataset.start
 ?new Date((+svg.dataset.start+s)*1000).toISOString().slice(0,16).replace("T"," ")
 :Math.floor(s/3600)+":"+pad(Math.floor(s%3600/60))+":"+pad(Math.floor(s%60));
const number=v=>v.toLocaleString("en",{maximumSignificantDigits:4});
function place(event,text){tip.textContent=text;tip.style.display="block";
 const box=tip.getBoundingClientRect();
 tip.style.left=Math.max(4,Math.min(event.clientX+14,innerWidth-box.width-6))+"px";
 tip.style.top=(event.clientY+18+box.height>innerHeight?Math.max(4,event.clientY-box.height-12)
  :event.clientY+18)+"px"}
for(const svg of document.querySelectorAll("figure svg")){
 for(const title of svg.querySelectorAll("title")){
  title.parentNode.dataset.said=title.textContent;
  title.parentNode.setAttribute("aria-label",title.textContent);title.remove()}
 const left=+svg.dataset.left,most=+svg.dataset.top,lasts=+svg.dataset.duration;
 const cross=document.createElementNS(svg.namespaceURI,"path");
 cross.setAttribute("class","cross");svg.append(cross);
 const lines=[...svg.querySelectorAll("polyline")].map(line=>({label:line.dataset.label,
  step:line.dataset.step,points:line.getAttribute("points").split(" ").map(p=>p.split(",").map(Number))}));
 const leave=()=>{tip.style.display="none";cross.removeAttribute("d")};
 const move=event=>{
  const said=event.target.closest("[data-said]");
  if(said)return place(event,said.dataset.said);
  const at=new DOMPoint(event.clientX,event.clientY).matrixTransform(svg.getScreenCTM().inverse()).x;
  if(at<left||at>RIGHT_EDGE)return leave();
  const rows=[];
  for(const {label,step,points} of lines){
   if(at<points[0][0]-6||at>points[points.length-1][0]+6)continue;
   const found=step?points.filter(p=>p[0]<=at+.05).pop()||points[0]
    :points.reduce((a,b)=>Math.abs(b[0]-at)<Math.abs(a[0]-at)?b:a);
   rows.push(label+": "+number(most*(1-(found[1]-PLOT_TOP)/PLOT_HEIGHT)))}
  cross.setAttribute("d","M"+at+" PLOT_TOPv"+PLOT_HEIGHT);
  place(event,clock(svg,(at-left)/(RIGHT_EDGE-left)*lasts)+"\\n"+rows.join("\\n"))};
 svg.addEventListener("pointermove",move);svg.addEventListener("pointerdown",move);
 svg.addEventListener("pointerleave",leave)}
"""
