"""Clips of four grey pictures, each lighter than the last, 32 pixels square: made with FFmpeg for these tests."""

from __future__ import annotations

import base64
import zlib

_WOVEN = {
    "H.264": (
        "c-oV4y}x*|Q(GgW({~{L)X3uWxsk)EsUtVBq$s~QJJG2fDAd}>BoW+@&d2})OsRstvr7)_Z>g}f6ZYNR9lW|l)N^H8@S4Vj5T01bx@;itjPL"
        "FqAWtadaC-2XCdLd1S0;EjP_l{1^9{r_hF}Kj1CV=`?Qgl-Kgm|>`o?B{CkNk#7N5kjv~Wi-<<i;VPzg~Aa;(F&{Vk3fd(75Boz#B4k+Jw_2"
        "h=deIgJcTTjw;F=B0ErGPL!F#rp=hx|`^G2K(zfhB-GkGAciAZejiUkm13E4UG!B8Wm<WGKFqv3EkPq82YY}0p?LA28QHCYZy})ME^fz5Kjl"
        "vYo2H)C^0ZFgQS=lH0(4&CNMIvW&CbFt#sh;j~@)6pu4`m<^47#>*C^b$p^ZV5spefG1GN%yQ`nGzl&>-OM4H{TgeJJnMoB!W+v$;7P>C(a0"
        "v}^4Ds~$b7`M!U|<DCdL{-?z##9ut<<4@e@nUi;g`=F85RRQ$<P2aSR}QhNr(6Uw{IW*v6?QKGHI8f;_{Cm*%XkqB90v$H_Rcj#@(B|UbwW)"
        "Kd^XqBf|-htgvIp#0aRY{2i#)*^P`kP|2Avt@@uPYA+O$ss|;8>HAw2UD|(ecmL)_hV5OzMEJ3Z@yLfpP5|$;;Rp"
    ),
    "H.264 with tables": (
        "c-oV4y}x*|Q(GgW({~{L)X3uWxsk)EsUtVBq$s~QJJG2fDAd}>BoW+@&d2})OzDEYvr7)_Z#jB0BG`9#ckt>KQO}iW!D|{9LU>{!>#~8oGrq"
        "fffIOj)!|B0mniw-7T$$kAK*=U1?>7+B7=jt74?yl&w!h_S|0G+j>l>T-og91{T6_}A(!w3VluKuaLnTBh$gvL7_qR;>v4(3M)JYxJ8ySm_c"
        "0dhdoYTmlv~^B%X<kZ4BSTw%SiEn5tGkK5XRyD%W0-SuBct-;<`&kk4;daz*wCo3t5IQABU9*xme8GzjG^xu8DJh|Vqi#Kw3ac2LG=Ga2Jv("
        "tz2=E_f)WD*Gf0Y=LBmcXWC9}td&ckP(*{fj{{HyE01CV7`&-^`Q?f2DK9_u;I~n1s^b<2(7q`3mIs3b~2D!BN0R5G$kdv8IVPs~Keqy2P;t"
        "rS4Ajc3-e?OP@$p!{iV5Dba00j*4&f7{I8uqv3X$j1D-pH^R=u3tMpur-k9ZfpC|G$0v@Q>A8!ck>ii$~^PkZcObS`o*NjvM9>S+nHrlXeLz"
        "F8{E2b|b?HkgTv{$HWMzto{;D?S(>8^+2tRI#8`MVOmWyo(O@pf|3I;^p9_4uH4<fxshRe7cd!qY+^k6p^*~+8w=lG"
    ),
    "HEVC": (
        "c-oV4y}x*|Q(GgW({~{L)X3uWxsk)EsUtVBq$s~QJJG2fDAd}>BoW+@&d2})OnU`=XO|q<-;%X7v(I;Tckt>KQO}iW!D|{9LU>{!>#~8oGrq"
        "fffIOj)!|B0mni#i0xH7@Jfs##33*SIYV+dxTJ^;CA+5VQR{gZ69u5WDScXIG;Xz@ubOAB`dQ!bqy4wVq4Ajdj9+TXHmowCe2sFN;VZ)7Y!+"
        "5t6;aZV$H($+c6rFkhGjSOuQ!s2}cT-`nNJ%j!AJzT?_n;RLGA2+wKetpRBV8Vt*g<Xvbvl^K~H?)NAY-9|5*T?|#DH8)j@}lpIj0r%t16V}"
        "v1H+%cKYlPU@Uti|FfvFuF!C_|{|{2Y3{t@iLUNNDCMW_WHJlh3(PS1laYUx9o~(T!N(#hh0udqtN<hVIE{q3@FLbJdn0}0njQkCtXt=(=<-"
        "@{DyNip@B_HTcMtCs&#7x)4?XG^#{w}UTF6}+QAWBxq$xNy+GBZs-vCwsKhf8RXV~D4}pG*5>0|P5C(larD0tR{KZKV#~`&*u7CN6v4$gp@`"
        "BLhPN&|sj|jEsUH7LNwwdclSl&DZ~*k39gAPho(`D}v>j7;kXaDT5TObYDEbk>Labihf?8yx{*12cUv~tQ&v|7<Et$04b1||D)wa^R>&l&7e"
        "d!eSgcIHckEA{hJ#Zws!#&_s1qCfe($G07o?3as"
    ),
    "MPEG-2": (
        "c-oV4y}x*|Q(GgW({~{L)X3uWxsk)EsUtVBq$s~QJJG2fDAd}>BoW+@&d2})%*KMgvr7)_Zwa5Uf4lGQ?%>reqMj?$g4Z-Igz&^d)@1{EXMA"
        "_}0C_?ohtq@CG%*@OxH7@Jfs##3kKaH{V+dxTJ^;CA+5VQR{gZ69u5WDScXIG;Xz@ubOAB`dQ!bqy4wVq4Ajdx1-@+H~)w>SnqU()}#Ya1!W"
        "--obWKh~Vr@1sQrK6FdtvxK>H^9~1sJW3*`Ehd#>(_@24<>JDRM^$1FsqSqZX;jlhL+Hsjf|o18W~_-WMW_dg~F}<Es|HmKNJ^VOg_+^jIbd"
        "6#2nYf?XG^#{w}UTF75q57bYv@7Nn*dm1U-+=BJ-n=(@PWB{aw}#M9r;rG2u2ffX3(nHWF;gS_*$Qb+IoEteCIcsy@pSbV;bfuR9t^kyao1>"
        "yhyA4mY%TSb}}7#UQ6tQ`y-3=Tk=fr0=350Fg%|Ic8TFe=v^o3g}psip_eag0m|9>~BH{025)H?YzxXrkDZrAi851L3^IXB!z#;585wcGwI|"
        "TdFCT=@p~|HV?)Dx{px@zi~L+SC;AJ5*0M1qXBFloCiv#r}wwGiG?KW?%&+Vu)PbIJw7%uPWsTu2@*&_5{Lo`oIny-y?esuCPp13kzW8EkPr"
        "?"
    ),
    "MPEG-4": (
        "c-oV4y}x*|Q(GgW({~{L)X3uWxsk)EsUtVBq$s~QJJG2fDAd}>BoW+@&d2})OsfQaXO|q<-xB=bpp5VC?%>reqMj?$g4Z-Igz&^d)@1{EXMA"
        "_}0C_?ohtq@CG%?0PxH7@Jfs##3QEwooF$6PEAAsDmY=6tu{z<l4*EcrvJ306^wD=^JrG-0!DVNR;hf0W2kYgRX_qW6@e138r)JZkh8ySm_c"
        "0dhdoYTmlv~^B%X<kZ4BSTw%SiEn5tGkK5XRyD%V{kxoBct-;<`&kk4;daz-q5J9t5IQABjemgzR(RVp*tHHL*F$r!2HU@z>vIX9?-}QKmo?"
        "Box(s8WP<|3k=_o5P(~IO8D~&<UESYuo8gvQaq*et1Kr68m!zMV?z*_$)z8`A#Wl#Ky$k4<WQE*<)O3^d6AN7zcesQGIfi)p`?<7FHZZUPBR"
        "vxXC}5Cx-d5@`cYn(~{fYL^8yOZaX=Gq%0Ghg)L4X}dZ4)@)abRQapS0WG85oYZv3BP_HoL!n@#02?6l7I`2Rsf2ZvQwt|2{|+SMUCw+jWZ<"
        "H8Pw)RwQ)5<LK;q$!&i@YIJV@IJ^Bl&>%(~WHrJEJPuF0e=K)@JxGzvwtvRCzd@<v^!^sZ`?BG?`!_c-Z0`c5%8yNq+dnjNf&@~K1oS}yCy)"
        "d}c2C&c#HfQLQUL(Iulm&"
    ),
    "ProRes": (
        "c-oV4y}x*|Q(GgW({~{L)X3uWxsk)EsUtVBq$s~QJJG2fDAd}>BoW+@&d2})tO|m@vr7)_Z+ZPi^SbZu?%>reqMj?$g4Z-Igz&^d)@1{EXMA"
        "_}0C_?ohtq@CG%;F3xH7@Jfs#!u=iWd}V+dxTJ^;CA+5VQR{gZ69u5WDScXIG;Xz@ubOAB`dQ!bqy4wVq4AjiJi-=Y=ps$?D1MbXzA8H<m0K"
        "+R&D)5xH-bxw0>UP?zJLt95!d_a(YkZW*rBct-;<`&kk4;daz-q5J9t5IQABjemgzR(RVp*tHHL*F$r!2HO>z>vJCC9%LH0~8uJf!58p^C~X"
        "BkbIy!8DUZSiP^4;+g<&f{asvxT-y79E=^V_D9SHNEsoDFPCv2Gb#aGFXpm!wr@x;|`(y(HD=^YCF@ORFdFO4V&ieaXidb77KW}7M>~Nxyfu"
        "Vt63Iij^ECvMzg%b=+OhDH#v)~7;P>K~wu|X+zFwMr!PN{wepob+G7!4Ts3|JUg7?@ao_aA7oZ?eZFzS!YdBSXrd^@=#i$-D+^49pBnazFmS"
        "e1b(7?2!|L-6Jd@7wbI!faVcoVUR}{bq2dfSV1lp<3NuQWMNQ=basEsk4@$EyZbjcGHmYxmV_Uh7-xQH<OB(%APHRAJz;a>iS6AmfhNYeyC-"
        "gLV$?wrVoC!5mG1#k"
    ),
}

_WHOLE = {
    "H.264": (
        "c-oV4y}x*|Q(GgW({~{L)X3uWxsk)EsUtVBq$s~QJJG2fDAd}>BoW+@&d2})O!0!gvr7)_Z;9E?SnIpHJ9u@AsOQSG;5Cg4Aw02=b=g4P8Q<"
        "MKK%P*@;q>4&O^oRfu1xT5pkx!1^Bah148aW42O#$>+uw4vf0C`%^^MK^P7b~eEk225Y2l7w%B8czp%S7L<XDHP`&$wZoQYcpbyC~)M#kc!9"
        "Z<s<=QJ`XZJpCxnwQei$k5gw7VjJ2>TaU%8SJm`80OsE$f*3dxrO!XLxu+vHZ&^iYE+oj$P~JvC3I&aW9Yj^2AD^g7#NZlt!7MN;QIfNK`b3"
        "euh}GYgQJ0gftdkFaItp^t1vRKWxPIoTIs;wA3qpCA$NU$%lmCg*2Tr=k`HtzBixjJVy5fjc2_@Ve;3yvm-Zf@uaXsVGLtHd%uLcxEOcGm;S"
        "w6;7~<*g=h8mez`zQO^h^w(fI;4QTj}rpElb;Pe0tu<uy}SO1IP^w!l@lCy#N1w`|yv|bjg%}Y1Q_@4?&VCAWMZEJ37oElE&Q|og&}-^>0`_"
        "tC8UZNK(kLV**rC{ti^*tVTv1sN4*woc^a?&h*V+?Lf(3`u-N_R~a$8`!_c-Z0`alzmH9fhd(rO0ssU+;PU"
    ),
    "H.264 with tables": (
        "c-oV4y}x*|Q(GgW({~{L)X3uWxsk)EsUtVBq$s~QJJG2fDAd}>BoW+@&d2})Oo@WNvr7)_ZwW5#kn-K#9lW|l)N^H8@S4Vj5T01bx@;itjPL"
        "FqAWtadaC-2XCdLd1S0;EjP_l{1^$o-{hF}Kj1CV=`?Qgl-Kgm|>`o?B{CkNk#7N5kjv~Wi-<<i;VPzg~Aa;(F&{Vft=X?^RUPHMm2$XI-|1"
        "8NxKoJIzvt#g`7^HMq*8QS{8;(Y^L-A(j8gZ=d#!<?HN8I>P5x3GSF$napohDL>5jS90GnL;<Tgzju)41L$g0P`pl14HtnHH;|?T>l?3h@}J"
        "RHJgNPa5OM5Ff#xNF7{4g6-Ea3jMs-x8!#RC`{M@#DCn;5Z+X8>$-21sT=IeLWQ3#APt0^(-0te<?C;_l<kH>)^j5M$PG(Ytk(o*QiG{9<J6"
        "uA8978<){ao578yHxDk)DYG6fnp;Z!7(?zvY3&q5kKM42x$sGJqVxAe`FK!u$W<w-5hV%_ST~ROg+)@)IPP0<u)tv7^HrB59VqJz!e3eei?D"
        "vl<yrfFy++J0?IS^_RGErf>dg57fx01JyVKDrcJU_ySlXC?QPW-?He^{)4;wH#ahD?*b;kk4=n6J~VOy0I?t6@B"
    ),
    "H.264 that might be": (
        "c-oV4y}x*|Q(GgW({~{L)X3uWxsk)EsUtVBq$s~QJJG2fDAd}>BoW+@&d2})ObLR%vr7)_Z#nAPpX<B3J9u@AsOQSG;5Cg4Aw02=b=g4P8Q<"
        "MKK%P*@;q>4&O^g{3u1xT5pkx!1%NvMk48aW42O#$>+uw4vf0C`%^^MK^P7b~eEk225Y2l7w%B8czp%S7L<XDGk`&;Ioy?$#Q)Jg5v8ySm_c"
        "0dhdoYTmlv~^B%X<kZ4BSTw%SiEn5tGkK5XRyD%W0-SuBct-;<`&kk4;daz*wCo3t5IQABU9*xme8GzjG^xu8DJh|Vqi#Kw1zQ-LG=Ga2Jv("
        "ty=Ifh20;b}W(GzOA;K@F=fTLpmht-VX{7^yfBawo1>N=iE$_D}Sr-?dOFqz@jBr%?iJ7j8+g<&f{asvxT-tkp-bz-;$xNy+GBZg(vCwsKhf"
        "8RXV~D4}pG*5>0|P5C(larD0tR{KZKc2Wx7cg0seInZuy}SO149GQT;bG?Cbs|ozJ2(|YPw`fz_e=n;D;c|6p*FDjvXD+5J}_ijZTqo{`xm8"
        "p4G^30wgKq*f9YrDSrp5aaJRv4peRiR8Id>FK7DZuXdnxFnxc^qD%V^?(W~*$gsT&nEpOCF&_EQ$O!<(k>G#"
    ),
    "MPEG-2": (
        "c-oV4y}x*|Q(GgW({~{L)X3uWxsk)EsUtVBq$s~QJJG2fDAd}>BoW+@&d2})%zA>pvr7)_Z`qO|f6RAxckt>KQO}iW!D|{9LU>{!>#~8oGrq"
        "fffIOj)!|B0mnivfrT$$kAK*=Vidv747F$6PEAAsDmY=6tu{z<l4*EcrvJ306^wD=^JrG-0!DVNR;hf0W2kYn%fZ{hEn_F^5>MFH0v8H<m0K"
        "+R&D)5xH-bxw0>UP?zJLtA@Tyl;T3yHRr^qw?eC7S^v186Hg7(5SGhQDIgiQ|N}4(4CEpq3;?QVE$ubU;qWdt^F;MSHnLP7hg<1(4CAhJ^jQ"
        "S*TwCwe$M_bu0byC{Xpj>E94fWrW=)IrljVlpIGR+xWgqh$T7sz-_NCevVnmW80nc9Kmmii^R`k)&;2b--*Y!SZ)8|}zL9~U0ciAQCI$uJ|N"
        "kFI0NGnbx)>N4RDi4<3>*v&K$?Mp|Njq=O#lDSjv(cX%0GKGJ-VkXRZ;-*m=HXWfhqV6Y`|{dC!lt{peY><U<2X2#b+BCPT(~V6n5AQJnI#t"
        "^i<QM18g3Q12m3N2fuMR-1p|vl#ZQ1Q^3Z-IG_}IdVfop!lRkH`!_c-Z0`c*jE_x>{T~`RK>{gA0#P7=6G#H9cTd>d#HfQL@(Tb<RTt#"
    ),
}

WOVEN = {name: zlib.decompress(base64.b85decode(text)) for name, text in _WOVEN.items()}
"""Interlaced."""

WHOLE = {name: zlib.decompress(base64.b85decode(text)) for name, text in _WHOLE.items()}
"""Not interlaced, though the headers of one allow it."""
