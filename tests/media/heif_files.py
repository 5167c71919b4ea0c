"""Small HEIC files, made once by pillow-heif 1.8.1 (libheif 1.23.6, x265 4.3): what is installed only reads them.

``MODES`` holds the picture of ``test_images.photo`` in the modes of Pillow, ``TILE`` 256x256 pixels of one colour.
"""

from __future__ import annotations

import base64

MODES = {
    name: base64.b85decode(text)
    for name, text in {
        "RGB": (
            "0000OW^{RQXk}?*00000ZE0pPXk}?*0004fZDn*}000000000XXk=`10000000000aA{+700000000000000000000B57=IV*mgE"
            "07O6l0RRC200001od5v<00000006WA001LtX>Mi!000000RR916=`l}WdZ;I000310BCk&F#rGn01j|zbZr0t000010002}X>f9I"
            "0002pX>en20001XXm(>m0RwOV0058x000009`FGC{rLC*01pFT0096PKmiN^|NjGU00093kN^M!000939=ZZRVE_RDDnbDP18@KU"
            "0|1Z!00RI30{|YNAb|yz>g1-mxCm%4AOHXZ10VnZ0{|gn00967L;=Bbz=;3=025<xY;ta6Y<K_x01W^JfB*mh6lrsCWdHyG00000"
            "KmY&$KmY&$C}V74Z~y=RH2?qr0RR91B>(^b0ssI1^#A|>0{{R2<p2Nx0ssI25O8UDX#fBK00RgJ2mk;87-?{AVE_OC000000RRC7"
            "fdT^sga7~lylrG*bN~PVuqXkq6M%um`AmN{BEd?}vnVDgn#?fug%bU%TFh#pYq<mIzoXQ!RfFwMmZB*~<xybEOW#vs(`@5PdQb@Y"
            "_P(G`-2ITEVu?7~jF^(>qOG84G9&?(SksTSDW@+vZ{(Aa;QFsLSDua7Wpo{}3*3b*zxX^_N@)u~m|Dn78wMOHLV4o+0(*4=GHfqi"
            "?W=7m;+q><K4gN)cq8`JkZq#tu=|dX$<qg7d|%>!fB"
        ),
        "RGBA": (
            "0000OW^{RQXk}?*00000ZE0pPXk}?*0007OZDn*}000000000XXk=`10000000000aA{+700000000000000000000G-+&aV*mgE"
            "07O6l0ssL300002ivR%t00000006WA0ssI200Tb&0RR9100000MF0Q*IB98aW&i*H00062000$fZf0cy000000RRAKc4ILB0000L"
            "X>Mj^0ssI200IC2Xm(>U000004sdC7Z2$lO0003100F9LaB^?}00Dw&aAR)(004Gqc4I>U18@KU0FVFx0000U@BsY%`1k+-4+CHT"
            "0RR|40Sp2E{{wIU00RJ!0009300RIXx&lC90096hLID8-Z~y=U0FVFx0{{R603M(qfd!W8<fgf}2xu@M00096AOHXZ03l)k0RRR>"
            "0l{;?i2wiq6Ju{|a&BX6cmM$a4FCp!0000KX>)L8000000000$0000$0000eV{Bn?0000r000010000b00001|NsB>00002|NsBx"
            "000020000GaA|mH000000|*ER0001RXm(>m0R#vD005u(000009`FGC{P_3)01pFT0096OKmiN^|NjIC00093pZEX(0{{RXx&lC9"
            "0096cLID8;2mk;B0H62(00RI39>9VG7F(;5n&!ZO000bt00093gkk^z00u+>!E?Zg0000EaA|mH000000SEv904HH}ctZdH004Dz"
            "ZaQsnWoJ5QWp-maGB7bUI$?EqX=FMv00000AZc)IVE_OC000000ssL8fdT^sga85sh64wPga7~l8fkK6W&i*H000004q<h8YybiP"
            "0RRC2009AQWMOmw006Kk0k0E)fyMbue>Nh)O3$+>CMcTBF!hBJ{i|BcYN2bn1L?n`)UZ{9?N64XDM#f|V9QJ2Q)1I><4Sr^2>JHD"
            "pikWWkfLIVINFSulIWtXplC8A0hU<PkF_bMFF9}Ilab*1uQXSljo4*$9kC1Cg)P7MJX%U=3qY7!$V(dr94SJ1;`{=8bpkSMFJA4d"
            "Z7JfL8(KbOg2{Lz_SKMWqU*5xj*!XI2V#6*;(veu002QK0j?*pe~<k^REBkL!9TcuWIl6bq8x<<pJPeMI?W0=;2JM!)foU^vW+PE"
            "e0k!G6M&X*(WHE>JVCmeMa|)W"
        ),
        "L": (
            "0000SW^{RQXk}@500000ZE0pPXk}@5ZE0a<0004XZDn*}000000000XXk=`10000000000aA{+700000000000000000000B57=I"
            "V*mgE07O6l0RRC200001nE(L*000000046U001LtX>Mi!000000RR916=`l}WdZ;I000310BCk&F#rGn01j|zbZr0t000010002>"
            "X>f9I0002hX>en20001RXm(>m0R#vD005u(000009`FGC{P_3)01pFT0096OKmiN^|NjIC00093pZEX(0{{RXx&lC90096cLID8;"
            "2mk;B0H62(00RI39>9VG7F(;5n&!ZO000bt00093gkk^z00u+>!E?Zg0000JV{dG7ZewhC0096E00w{n000zeb8uw<00000002M$"
            "002M$001asY+-N!001=r00031001Qb00061|Nr#>00092|NrFx00062000hfX?SS>000012mk;87-?{AVE_OC000000RRC7fdT^s"
            "ga7~ldu?Q4bN~PVZzut-C$Wwn>wU5lfVkJKTN!gM90u}S^410QZ^{&){!d|!qsqOIE;(m%cRKw`S=~r?1rdfr9AJ)F;8_OIP8U#w"
            "C;QR>1)?F{iWl`e&-Ox{Cnf7<kDswF>d_u-oHE)-cnO_?E7q9`@(T^;"
        ),
        "LA": (
            "0000SW^{RQXk}@500000ZE0pPXk}@5ZE0a<0005yZDn*}000000000XXk=`10000000000aA{+700000000000000000000G-+&a"
            "V*mgE07O6l0ssL3000022><~A000000046U0ssI200Mjf0RR9100000MF0Q*IB98aW&i*H00062000$fZf0cy000000RRAKc4ILB"
            "0000LX>Mj^0ssI200IC2Xm(>U000004sdC7Z2$lO0003100AUvaB^?}008`HaAR)(003}kc4I>U1PA~C0H62(0000U@BsY$`1k+-"
            "4+CHT0RR_30Sp2E{{#pC00RJ@_y7O{0017k0zhE^0RSaJ0RaRE00093pZEX(0{{RXz=8x8TdR_q=D>ge01SWt00RJoVgLaE21EhD"
            "bHIrJ000wXZ)|dIV{CW;0RRmE27mwn02FC+aAg1h0000006+i$06+i$04QT@VQ>Hd05t#r0096103`qb00IC1|MdU>00RI2|K$Jx"
            "00IC201j|zcxeCt000390000dVRd*z00000b#iVxZE$60I%s8fV>&W0F*Q12b$DrHIxzqM001CqaBX1#00000000620R@2q0|kTt"
            "0tJBs1%`wG000_ka%E-!00000000hQb$Dz50ssL30RR91z-?q<bN~PVZzut-C$Wwn>wU5lfVkJKTN!gM90u}S^410QZ^{&){!d|!"
            "qsqOIE;(m%cRKw`S=~r?1rdfr9AJ)F;8_OIP8U#wC;QR>1)?F{iWl`e&-Ox{Cnf7<kDswF>d_u-oHE)-cnO_?E7q9`@(T^;0000%"
            "C;_e~v44;KK~#oyZ^1vfeq=s#WTG5}1)pO{$vVvnIN%yDY1J73U$TuT`h0ofj1z#CaM7fEtvo@xnnlgwfB"
        ),
        "P": (
            "0000OW^{RQXk}?*00000ZE0pPXk}?*0004fZDn*}000000000XXk=`10000000000aA{+700000000000000000000B57=IV*mgE"
            "07O6l0RRC200001od5v<0000000Dvk001LtX>Mi!000000RR916=`l}WdZ;I000310BCk&F#rGn01j|zbZr0t000010002}X>f9I"
            "0002pX>en20001XXm(>m0RwOV0058x000009`FGC{rLC*01pFT0096PKmiN^|NjGU00093kN^M!000939=ZZRVE_RDDnbDP18@KU"
            "0|1Z!00RI30{|YNAb|yz>g1-mxCm%4AOHXZ10VnZ0{|gn00967L;=Bbz=;3=025<xY;ta6Y<K_x01W^JfB*mh6lrsCWdHyG00000"
            "KmY&$KmY&$C}V74Z~y=RH2?qr0RR91B>(^b0ssI1^#A|>0{{R2<p2Nx0ssI25O8UDX#fBK00RgJ2mk;87-?{AVE_OC000000RRC7"
            "fdT^sga7~mifv?JbN~PWekcL26M&1vGojpoKh^D?;A~sBSqu}Cj3Hj_(7b;U$&f4@>G>uCS&gX2_{HeI6?^!(R@p9Ba0~iS|F>-Y"
            "5qY!e|M;zNvFrbv%@kKMr!p<UT4|odP2d6&)&ouiHvA_~&cJHlMmj?KftiQ+2zZmjTqqKM0?h!glREkRY*PdaK<mAiV#R~hORey<"
            "sPwdnXE~!3$OTamkJa{G&e)@t$ldK;V<o7NLZ-`N@zIQXD%k>#VHPs|6nj&oA3ReI^#n~OClOnw7=&|;-DaiyoKDiLZ#J6p98!=7"
            "8Sh?Fp5?xg+J_+5K{V=2AG_D39vnc<0EyTy4vYMkm?aVYFUgXvU;Y<hf?Jh6u~)D~0sU8eRmIqC_trqyn4ERM15duM1%Y^KA6{zE"
            "a|}Ns=}}Ay`CfvI?zqps(??C~H5JU&ek*FBlR(1tf7)X6gSlg}GCFq$Y}V>`OGr$35aqCSz3kLt2COQ`p6W(?6(C>4l&geW0$AV"
        ),
        "1": (
            "0000SW^{RQXk}@500000ZE0pPXk}@5ZE0a<0004XZDn*}000000000XXk=`10000000000aA{+700000000000000000000B57=I"
            "V*mgE07O6l0RRC200001nE(L*0000000kQW001LtX>Mi!000000RR916=`l}WdZ;I000310BCk&F#rGn01j|zbZr0t000010002>"
            "X>f9I0002hX>en20001RXm(>m0R#vD005u(000009`FGC{P_3)01pFT0096OKmiN^|NjIC00093pZEX(0{{RXx&lC90096cLID8;"
            "2mk;B0H62(00RI39>9VG7F(;5n&!ZO000bt00093gkk^z00u+>!E?Zg0000JV{dG7ZewhC0096E00w{n000zeb8uw<00000002M$"
            "002M$001asY+-N!001=r00031001Qb00061|Nr#>00092|NrFx00062000hfX?SS>000012mk;87-?{AVE_OC000000RRC7fdT^s"
            "ga7~qBW+}1bN~Pa7bpR)Cpz#8v>HPH|N0GY?S0%aJV_vdsKRg)np?S5qC;935PAS<HL3hvZ0o?&zYsn{;;ez+h?t<Lb7t4oWdQ6R"
            "z$;O0Us`d4w;(EaaBbxQufT)!CKT|i8WFRJ2=TzyD0>%6b-cwS)q2{!_WpgYF)ZQ|UV#9gtvM8<-{bRylpwY)cY)0&K^>U<VcUV?"
            "+Zt}xhBR?`zPSFG6PGxY_3u<cT++oISTQrtAObAu)8DP5(6crt;kbHh*CAwQV>vfl=~76&;n+MDj+(07Z7^RalFo7MAyr?8KYC1Q"
            "Pg%RpL6zGLRlJqs!zZ@55ouBSWoF(AE68(JAv>rpoIkK`AKn)V=EG26h7J}i*Ue{PhVd@Uj+e|X!+vX`$U|@1U|awn(=IJOo2fe)"
            "G)wJ(qhO}34BUOITH)?na5)nlXLK4pUc27ss50)_f6$(oy-XRvtibys^f!XB;8OiRBm*>oi@?%d)C4l#dBE2~mT`W`5W<Vq)Jc+L"
            "IAv|T_9`v61BVdw!k!(XJ{Qa2c63E_-j77Vx+L(1vFJPdP?OLFWIE?W<1=He*8=4iDm^J5etuR<_Sr`)Be%;fRq#zy48J4+4YpK="
            "U6G{B;wBg&mNo=R8BDoC1^O8vDfI7pf#a_s{hHlbArT{=R?cvQ4if?-362tHW~QhUIG-QsSUYY@P3}7qL1z&p1w|e(Z7lC85Ms$S"
            "nh_1wJHctrNK5lo0zurty%KAQZ(%U`9Q{5G8k@;?XhK*`5E%6!DsFiaP9nnpZSPI!yItEvS?Fa`wcP6W5|))X`ENo5K|4vZ6kf`#"
            "xTj{pe50P2+T}S{bnrz6XboWPCwv1qD&!5J{!N=w=Zj$#8S+8FV^7wEGm_Yx+X`pILdyDhP4>=k4_qVlp<hTan0E_IN^XF?Q>MXx"
            "Bfc{SBee?X`0}h?e+W2aq*`VnSKXd40P-(air^vlCA>rAsqyL?np>DuHHUmVbmj$}js;>}HPN4^401|ELn2Dzi4!XBgDQNqz&iCh"
            "FpXUC*bYCbWT<5E5<JK78>l;ktT6hRNC+>5-GmYQtR)GO!R||@WMb2`9A^zI5=B!YgHC_b4E{=rwmS$BcY{CfsEt+HFIv8no)%7C"
            "gvg(T4dY(8NEHc5Y<sgq>-Z3}MKK8btL1t{LL&%Tgmn0;`qa~!N_=yxj3jLB4!<tP1z|&e0=^*~lh(L4WdC3D<bC)!r~y(_e>dd`"
            "LOc3RAoOzHjB_o8(ThUEMC%l7-w-Yycgnjus3ij;!$X3|)zW;YkD@#Z>BGFKAiFz+5l*3!>SrttJf}2bHYMV0??_8>;N}zp0ap`("
            "mf>{FAV}Y+QB~=8(FTh?XkH~sj2j;7%o?U_&|L%f;trugTfB@i3ge{fq0Xu--J6DYyNcw*yLzlElYx5EwwZ<9jaC2r7-D0T0k(@`"
            "*sI0aJqDknK=}9Q+HdKY^mOyr`fG0;d(Y{6&0Gxbds=!LZhM5EaO$+4<NN6Z=vjkV(>4H&=%$HET3=XvnBV}t>-ijl^HRT`6!H_N"
            "g9Ki=06b#xNR<m8*_wzIp^X4z^#G^{S><nNPEY@iSnJ9_Bjh->gytO;!^QkbZcYRYwYQ~zxH+i2{F?Q+khlJ8^>^h%<S-+<E^i#m"
            "FX$6;7Q6F(VYollmwf?)`p5T>^T<WDsd{vt7rnvKJ(U}{"
        ),
        "CMYK": (
            "0000OW^{RQXk}?*00000ZE0pPXk}?*0007OZDn*}000000000XXk=`10000000000aA{+700000000000000000000G-+&aV*mgE"
            "07O6l0ssL300002ivR%t00000006WA0ssI200Tb&0RR91000006951JIB98aW&i*H00062000$fZf0cy000000RRAKc4ILB0000L"
            "X>Mj^0ssI200IC2Xm(>U000004sdC7Z2$lO0003100F9LaB^?}00Dw&aAR)(004Gqc4I>U18@KU0FVFx0000U@BsY%`1k+-4+CHT"
            "0RR|40Sp2E{{wIU00RJ!0009300RIXx&lC90096hLID8-Z~y=U0FVFx0{{R603M(qfd!W8<fgf}2xu@M00096AOHXZ03l)k0RRR>"
            "0l{;?i2wiq6Ju{|a&BX6cmM$a4FCp!0000KX>)L8000000000$0000$0000eV{Bn?0000r000010000b00001|NsB>00002|NsBx"
            "000020000GaA|mH000000|*ER0001RXm(>m0R#vD005u(000009`FGC{P_3)01pFT0096OKmiN^|NjIC00093pZEX(0{{RXx&lC9"
            "0096cLID8;2mk;B0H62(00RI39>9VG7F(;5n&!ZO000bt00093gkk^z00u+>!E?Zg0000EaA|mH000000SEv904HH}ctZdH004Dz"
            "ZaQsnWoJ5QWp-maGB7bUI$?EqX=FMv00000AZc)IVE_OC000000ssL8fdT^sga85sh64wPga7~l8fkK6W&i*H000004q<h8YybiP"
            "0RRC2007TzWMOmw006Kk0k0E)fyMbue>Nh)O3$+>CMcTBF!hBJ{i|BcYN2bn1L?n`)UZ{9?N64XDM#f|V9QJ2Q)1I><4Sr^2>JHD"
            "pikWWkfLIVINFSulIWtXplC8A0hU<PkF_bMFF9}Ilab*1uQXSljo4*$9kC1Cg)P7MJX%U=3qY7!$V(dr94SJ1;`{=8bpkSMFJA4d"
            "Z7JfL8(KbOg2{Lz_SKMWqU*5xj*!XI2V#6*;(veu000jt0j?+K+_&HVnlE|4E8q"
        ),
        "I;16": (
            "0000SW^{RQXk}@500000ZE0pPXk}@5ZE0a<0004ZZDn*}000000000XXk=`10000000000aA{+700000000000000000000B57=I"
            "V*mgE07O6l0RRC200001n*ad-0000000341001LtX>Mi!000000RR916=`l}WdZ;I000310BCk&F#rGn01j|zbZr0t000010002@"
            "X>f9I0002jX>en20001TXm(>m0R#vD005o%000009`FGC{QCL;01pFT0096OKmiN^|NjIC00093o%jF%0{{RXx&lC90096eLID8;"
            "2mk;B0G;>%00RI39>9VG6J@%&DXwe?00093$N&HX00=;000967L;=Bbz=;3=025<xY;ta6Y<K_x01W^JfB*mh6lrsCWdHyG00000"
            "KmY&$KmY&$C}V74Z~y=RH2?qr0RR91B>(^b0ssI1^#A|>0{{R2<p2Nx0ssI24sdCBX#fBK009aB000<iaBX1#00000000310R@2q"
            "0|kTt003TXWMOmw002@b0j?*pe~N{3{Hhy|RP7Au!9=hVLWz1&pp01FAlZi%CQ=OoKQjh9IL#m~K<^~_rVJ^WzFAgX4e5p!TQ%V0"
            "VLt2w*XpJXv!dzAjiVU<zy"
        ),
    }.items()
}

TILE = base64.b85decode(
    "0000SW^{RQXk}?*00000ZE0pPXk}?*ZE0a<00043ZDn*}000000000XXk=`10000000000aA{+700000000000000000000B57=I"
    "V*mgE07O6l0RRC200001djJ6d00000001=r001LtX>Mi!000000RR916=`l}WdZ;I000310BCk&F#rGn01j|zbZr0t000010002j"
    "X>f9I0002EX>en20001aXm(>m0RwOV0058x00000Jn#Vg{rLC*01pFT0096PKmiN^|NjGU00093kN^M!00093Jh}ovVE_RDEJ6VR"
    "18@KU0|1Z!00RI30{}dr2nYlPmg-3<u5JPv3<v-K0|3YX00RIBKw<y^00%??!E&%-KmY&$6Ju{|a&BX6cmM$a4FCp!0000KX>)L8"
    "0000000031000310000GaA|mH000000|*ER0000NX>e^}0000000001009Jn0s{m9002F0WMOmw001#40j~s-7KbeS%;xrg`#`7M"
    "UR!;YuMybJgZw(+sG$D{Aw0N%lMhtz2egL(00RM^"
)
