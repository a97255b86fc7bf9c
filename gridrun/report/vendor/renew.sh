#!/usr/bin/env bash
# Fetch the two libraries of the report page anew from the npm registry: bash gridrun/report/vendor/renew.sh
# npm checks what it fetches against the registry's digests; SHA256SUMS is what the page then checks.
set -euo pipefail
cd "$(dirname "$0")"
ECHARTS=6.1.0
TABULATOR=6.5.3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
npm pack --silent --pack-destination "$work" "echarts@$ECHARTS" "tabulator-tables@$TABULATOR" > /dev/null

take() { # PACKAGE FILE NAME
    tar -xzOf "$work/$1.tgz" "package/$2" > "$3"
}
take "echarts-$ECHARTS" dist/echarts.min.js echarts.min.js
take "echarts-$ECHARTS" LICENSE echarts.LICENSE
take "echarts-$ECHARTS" NOTICE echarts.NOTICE
take "tabulator-tables-$TABULATOR" dist/js/tabulator.min.js tabulator.min.js
take "tabulator-tables-$TABULATOR" dist/css/tabulator_simple.min.css tabulator.min.css
take "tabulator-tables-$TABULATOR" LICENSE tabulator.LICENSE
# A page of one file has no place for source maps.
sed -i -e '/^\/\/# sourceMappingURL=/d' tabulator.min.js
sed -i -e 's|/\*# sourceMappingURL=[^*]*\*/||' tabulator.min.css
sha256sum echarts.* tabulator.* > SHA256SUMS
cat > README.md << TEXT
# Libraries of the report page

Renewed by \`renew.sh\`, which names the versions. Unchanged but for the lines that name a source map.

| library | version | licence | from |
| --- | --- | --- | --- |
| Apache ECharts | $ECHARTS | Apache-2.0 (\`echarts.LICENSE\`, \`echarts.NOTICE\`) | npm: echarts |
| Tabulator | $TABULATOR | MIT (\`tabulator.LICENSE\`) | npm: tabulator-tables |
TEXT
